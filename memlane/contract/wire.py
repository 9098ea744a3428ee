"""The contract's types as JSON, in both directions."""

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

T = TypeVar("T")


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, kind))


def dump(value: object) -> bytes:
    """A value of the contract as JSON; fields that are None are left out."""
    return _adapter(cast(Hashable, type(value))).dump_json(value, exclude_none=True)


def load(kind: type[T], data: bytes | str) -> T:
    """A value of the contract from JSON.

    Raises:
        ValueError: it is not one.
    """
    found: T = _adapter(cast(Hashable, kind)).validate_json(data)
    return found
