"""How an error is named where each name costs a series."""

from memlane import errors


def error_name(error: BaseException) -> str:
    """The class of our own tree that an error is, or is a kind of; all others are `other`: there are few names."""
    kinds = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return next(kinds, "other")
