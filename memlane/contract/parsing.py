"""From raw JSON to checked items: the same checks, in the same words, behind every door."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from memlane.contract import limits
from memlane.contract.memory import MemoryItem
from memlane.errors import FieldError, InvalidInput

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ParsedItems:
    """Items that are good, with their places in the batch, and what is wrong with the others."""

    items: Sequence[MemoryItem]
    places: Sequence[int]
    errors: Sequence[FieldError]


def parse(model: type[M], raw: Any) -> M:
    """Check one value against a model of the contract.

    Raises:
        InvalidInput: names each field that is wrong.
    """
    if _too_many(raw):
        raise InvalidInput([FieldError("body", _TOO_MANY)])
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise InvalidInput(field_errors(error)) from None


def parse_items(raw: Sequence[Any]) -> ParsedItems:
    """Check a batch of memories; a bad one does not spoil the others."""
    items, places, errors = [], [], []
    for index, value in enumerate(raw):
        if _too_many(value):
            errors.append(FieldError("body", _TOO_MANY, index))
            continue
        try:
            items.append(MemoryItem.model_validate(value))
            places.append(index)
        except ValidationError as error:
            errors += field_errors(error, index)
    return ParsedItems(items, places, errors)


def _too_many(raw: Any) -> bool:
    return isinstance(raw, dict) and len(raw) > limits.FIELDS


_TOO_MANY = f"must be at most {limits.FIELDS} fields"


def field_errors(error: ValidationError, index: int | None = None) -> list[FieldError]:
    """What pydantic found, as ours; the value at fault is not quoted."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return [
        FieldError(
            ".".join(map(str, e["loc"])) or _FIELD_OF.get(e["type"], "body"), _WORDS.get(e["type"], e["msg"]), index
        )
        for e in found
    ]


_WORDS = {
    "extra_forbidden": "is not a known field",
    "missing": "is missing",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "string_type": "must be a string",
    "string_pattern_mismatch": "is not the `next` of a page",
}
"""What we say where pydantic's words speak of Python."""

_FIELD_OF = {
    "two_identities": "id",
    "texts_or_agent": "agent",
    "no_agent": "agent",
    "agent_or_agents": "agents",
    "own_successor": "supersedes",
    "no_change": "body",
    "no_filter": "body",
    "large_page": "limit",
}
"""The field to name for an error that is about the whole item."""
