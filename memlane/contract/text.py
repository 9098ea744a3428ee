"""Checked strings: what every text and name that enters memlane has to be."""

import json
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

from memlane.contract import limits

_MOST_UTF8 = 4
"""Bytes that a character has at most in UTF-8."""


def clean(value: str) -> str:
    """Refuse what Postgres or UTF-8 cannot hold: NUL and lone surrogates.

    Raises:
        PydanticCustomError: names what was found.
    """
    if "\x00" in value:
        raise PydanticCustomError("nul", "must not contain NUL characters")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise PydanticCustomError("surrogate", "must not contain lone surrogates") from None
    return value


def _at_most_bytes(limit: int) -> AfterValidator:
    def check(value: str) -> str:
        if len(value) * _MOST_UTF8 <= limit:
            return value
        size = len(value.encode())
        if size > limit:
            raise PydanticCustomError(
                "too_large", "must be at most {limit} bytes of UTF-8, is {size}", {"limit": limit, "size": size}
            )
        return value

    return AfterValidator(check)


def _not_blank(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("blank", "must not be empty")
    return value


def _plain_json(value: dict[str, Any]) -> dict[str, Any]:
    """Metadata has to be JSON that Postgres can hold, and small."""
    try:
        for text in _strings(value):
            clean(text)
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
        size += sum(map(_written_out, _numbers(value)))
    except PydanticCustomError:
        raise
    except TypeError:
        raise PydanticCustomError("not_json", "must be JSON: strings as keys, no types of Python's own") from None
    except ValueError:
        raise PydanticCustomError("not_json", "must be JSON: no NaN, no Infinity, no circles") from None
    if size > limits.METADATA_BYTES:
        raise PydanticCustomError(
            "too_large",
            "must be at most {limit} bytes of JSON, is {size}",
            {"limit": limits.METADATA_BYTES, "size": size},
        )
    return value


def _numbers(value: object) -> Iterator[float]:
    """Every number with a fraction or an exponent in a JSON value."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _numbers(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner)


def _written_out(number: float) -> int:
    """How many digits more a number has in Postgres, which keeps 1e300 with all its zeros."""
    text = repr(number)
    return len(format(Decimal(text), "f")) - len(text) if "e" in text else 0


def _strings(value: object, depth: int = 0) -> Iterator[str]:
    """Every string in a JSON value, keys too."""
    if depth > limits.METADATA_DEPTH:
        raise PydanticCustomError(
            "too_deep", "must not be nested deeper than {limit}", {"limit": limits.METADATA_DEPTH}
        )
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError
            yield key
            yield from _strings(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner, depth + 1)


def _speakable(value: str) -> str:
    """A name stands in URLs and in lines for people: no control characters, and not what a path calls itself."""
    if not value.isprintable() and any(unicodedata.category(sign) == "Cc" for sign in value):
        raise PydanticCustomError("control", "must not contain control characters")
    if value in (".", ".."):
        raise PydanticCustomError("dots", "must not be . or ..")
    return value


Clean = AfterValidator(clean)

Name = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=limits.NAME_CHARS), Clean, AfterValidator(_speakable)
]
"""A name that the caller chose: an agent, key, thread, speaker or kind."""

Tag = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=limits.TAG_CHARS), Clean]
"""One tag of a memory."""

Content = Annotated[
    str,
    StringConstraints(strict=True),
    Clean,
    AfterValidator(_not_blank),
    _at_most_bytes(limits.CONTENT_BYTES),
]
"""The text of a memory."""

Query = Annotated[
    str,
    StringConstraints(strict=True),
    Clean,
    AfterValidator(_not_blank),
    _at_most_bytes(limits.QUERY_BYTES),
]
"""What a recall asks."""

Metadata = Annotated[dict[str, Any], AfterValidator(_plain_json)]
"""Free fields of a memory: any JSON object of at most 16 KiB."""
