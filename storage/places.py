"""Places in lists that go through all shards, one after the other: where a page ends and the next goes on."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from memlane.errors import FieldError, InvalidInput

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Place:
    """After one row of a shard, by its time and its number or id."""

    shard: int
    at: datetime
    last: int | UUID

    @classmethod
    def first(cls, kind: type[int] | type[UUID], shard: int = 0) -> Self:
        """Before all rows of a shard, which have numbers or ids."""
        return cls(shard, _EPOCH, UUID(int=0) if kind is UUID else 0)

    def onward(self, shard: int) -> Self:
        """Where to go on in a shard that is this one, or one after it."""
        return self if shard == self.shard else self.first(type(self.last), shard)

    @classmethod
    def of(cls, cursor: str | None, kind: type[int] | type[UUID]) -> Self:
        """What a cursor stands for; without one, before all rows.

        Raises:
            InvalidInput: it is none of ours.
        """
        if cursor is None:
            return cls.first(kind)
        try:
            shard, micros, last = cursor.split(".")
            return cls(_number(shard), _EPOCH + _number(micros) * _MICROSECOND, _last(last, kind))
        except (ValueError, OverflowError):
            raise InvalidInput([FieldError("cursor", "is not the `next` of a page")]) from None

    @property
    def cursor(self) -> str:
        """As callers see it."""
        return f"{self.shard}.{(self.at - _EPOCH) // _MICROSECOND}.{self.last}"

    @property
    def params(self) -> dict[str, Any]:
        """As parameters of a query."""
        return {"at": self.at, "last": self.last}


def _last(text: str, kind: type[int] | type[UUID]) -> int | UUID:
    return UUID(text) if kind is UUID else _number(text)


def _number(text: str) -> int:
    """A number that Postgres can hold as well.

    Raises:
        ValueError: it is none.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise ValueError(text)
    return int(text)
