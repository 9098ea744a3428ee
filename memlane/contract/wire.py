"""The contract's types as JSON, in both directions."""

from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def dump(value: object) -> bytes:
    """A value of the contract as JSON; fields that are None are left out."""
    return _adapter(type(value)).dump_json(value, exclude_none=True)


def load(kind: type[T], data: bytes | str) -> T:
    """A value of the contract from JSON.

    Raises:
        ValueError: it is not one.
    """
    found: T = _adapter(kind).validate_json(data)
    return found
