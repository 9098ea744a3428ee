"""The API's OpenAPI document: what FastAPI makes of the endpoints, completed by what our own code knows."""

from collections.abc import Iterator
from typing import Any

from memlane.contract import Filters
from memlane.contract.requests import MemoryName, ReceiptsRequest
from memlane.gateway.bodies import schema_of
from memlane.gateway.docstrings import Docstring
from memlane.gateway.problems import Problem

_NOTHING_SAID = "Successful Response"
"""What FastAPI says of an answer of which nothing is said."""

_DONE = {"201": "Made.", "202": "Taken in: it is durable."}

_MEANINGS = {
    name: meaning
    for model in (Filters, ReceiptsRequest, MemoryName)
    for name, meaning in Docstring.of(model.__doc__).attributes.items()
}
"""What a parameter means that stands for a field of the contract."""


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the API key, the schemas of bodies and errors, and a meaning for each field.

    FastAPI would tell of the key for a dependency that parses it, on the path of each request.
    """
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in document["paths"].items():
        for described in methods.values():
            if path.startswith("/v1/"):
                described["security"] = [{"key": []}]
            for parameter in described.get("parameters", ()):
                if parameter["name"] in _MEANINGS:
                    parameter.setdefault("description", _MEANINGS[parameter["name"]])
            for status, response in described["responses"].items():
                if response["description"] == _NOTHING_SAID:
                    response["description"] = _DONE.get(status, "Done.")
    schemas = components.setdefault("schemas", {})
    schemas |= schema_of(Problem)["$defs"]
    for inline in list(_objects(document["paths"])):
        schemas |= inline.pop("$defs", {})
    for schema in schemas.values():
        _explain(schema)
    components["schemas"] = dict(sorted(schemas.items()))
    return document


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inner)


def _explain(schema: dict[str, Any]) -> None:
    """Give each field its meaning from the docstring that stands as the description of the whole."""
    said = Docstring.of(schema.get("description"))
    if said.text:
        schema["description"] = said.text
    for name, meaning in said.attributes.items():
        if name in schema.get("properties", {}):
            schema["properties"][name]["description"] = meaning
