"""A path parameter that takes in all of a name: slashes, and also a line break, which Starlette's own would cut off."""

from starlette.convertors import Convertor, register_url_convertor


class Whole(Convertor[str]):
    """Whatever stands there, to be checked as a name."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("whole", Whole())

AGENT = "{agent:whole}"
"""The place of an agent's name in a path."""
