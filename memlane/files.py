"""Files of memories: JSON Lines, and conversations in the form of the LoCoMo benchmark.

LoCoMo (Maharana et al., 2024) is a list of samples; each has a `conversation` of dated sessions of turns,
and `qa`: questions with the ids of the turns that hold the answer. A conversation becomes an agent, a
session a thread, a turn a memory with its id as key.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from memlane.contract import MemoryItem
from memlane.contract.parsing import parse
from memlane.errors import FieldError, InvalidInput

_SESSION = re.compile(r"session_(\d+)")
_DATE = "%I:%M %p on %d %B, %Y"

_LINES = UUID("5a0b3c1e-6f0d-5b8e-9c52-6d656d6c616e")
"""The name space of ids of lines that name none."""

SCORED_CATEGORIES = (1, 2, 3, 4)
"""LoCoMo's categories that have an answer in the conversation; 5 is adversarial."""


@dataclass(frozen=True, slots=True)
class Line:
    """One memory of a file, or why it is none: `number` counts lines, or turns, from 1."""

    number: int
    item: MemoryItem | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question to an agent, and the keys of the memories that hold the answer."""

    agent: str
    text: str
    evidence: frozenset[str]
    category: int


def read_memories(path: Path) -> Iterator[Line]:
    """The memories of a file, in its order.

    Raises:
        InvalidInput: it cannot be read, or is neither of the two forms.
    """
    text = _text(path)
    samples = _samples(path, text)
    if samples is not None:
        with _shape_of(path):
            turns = [turn for sample in samples for turn in _turns(sample)]
        yield from _numbered(turns)
    else:
        yield from _json_lines(text)


def read_questions(path: Path) -> list[Question]:
    """The questions of a LoCoMo file that have an answer.

    Raises:
        InvalidInput: it is not a LoCoMo file.
    """
    samples = _samples(path, _text(path))
    if samples is None:
        raise InvalidInput(
            [FieldError("file", f"{path} is not a LoCoMo file: a JSON list with `conversation` and `qa`")]
        )
    with _shape_of(path):
        return [
            Question(str(sample["sample_id"]), str(qa["question"]), _evidence(qa), int(qa["category"]))
            for sample in samples
            for qa in sample.get("qa", [])
            if qa["category"] in SCORED_CATEGORIES and _evidence(qa)
        ]


@contextmanager
def _shape_of(path: Path) -> Iterator[None]:
    """Say of a file that it is not what it looks like, whatever part of it is missing or of another kind."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InvalidInput([FieldError("file", f"{path} is not of LoCoMo's form: {why}")]) from None


def _samples(path: Path, text: str) -> list[Mapping[str, Any]] | None:
    """The samples of a LoCoMo file, or None if it is not one: no list, or only its first line is one."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        first, _, rest = text.lstrip().partition("\n")
        if rest.lstrip().startswith("{") and _why_no_json(first) is None:
            return None
        raise InvalidInput([FieldError("file", f"{path} is not JSON: {error}")]) from None
    if not found or not all(isinstance(s, dict) and "conversation" in s for s in found):
        raise InvalidInput([FieldError("file", f"{path} is a JSON list, but not of LoCoMo samples")])
    return [{"sample_id": f"conversation-{n}", **sample} for n, sample in enumerate(found, 1)]


def _text(path: Path) -> str:
    """All of a file, or of standard input for `-`; a byte order mark is no part of it."""
    try:
        return _bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput([FieldError("file", f"{path} cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise InvalidInput([FieldError("file", f"{path} is not text in UTF-8")]) from None


def _bytes(path: Path) -> bytes:
    if str(path) != "-":
        return path.read_bytes()
    return sys.stdin.buffer.read() if sys.stdin else b""


def _turns(sample: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    conversation = sample["conversation"]
    sessions = sorted((int(m[1]), m[0]) for name in conversation if (m := _SESSION.fullmatch(name)))
    for _, session in sessions:
        happened = _date(conversation.get(f"{session}_date_time"))
        for turn in conversation[session]:
            caption = f" [shares {turn['blip_caption']}]" if turn.get("blip_caption") else ""
            yield {
                "agent": str(sample["sample_id"]),
                "content": f"{turn['text']}{caption}",
                "key": turn["dia_id"],
                "kind": "turn",
                "thread": session,
                "speaker": turn["speaker"],
                "occurred_at": happened,
            }


def _date(text: str | None) -> datetime | None:
    """LoCoMo's dates, such as 1:56 pm on 8 May, 2023, taken as UTC."""
    try:
        return datetime.strptime(text, _DATE).replace(tzinfo=UTC) if text else None
    except ValueError:
        return None


def _evidence(qa: Mapping[str, Any]) -> frozenset[str]:
    """The turns that hold the answer; some entries of the data set name several in one string."""
    named: Sequence[str] = qa.get("evidence") or []
    return frozenset(part for entry in named for part in re.split(r"[;,\s]+", entry) if part)


def _json_lines(text: str) -> Iterator[Line]:
    """One memory per line.

    One without a name of its own gets an id from its place and text, so that the same file again is recognised.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if why := _why_no_json(line):
            yield Line(number, None, f"is not JSON: {why}")
            continue
        found = _line(number, json.loads(line))
        if found.item is not None and not (found.item.id or found.item.key):
            named = found.item.model_copy(update={"id": uuid5(_LINES, f"{number}:{line.strip()}")})
            found = Line(number, named)
        yield found


def _why_no_json(line: str) -> str | None:
    try:
        json.loads(line)
    except ValueError as error:
        return str(error)
    except RecursionError:
        return "it is nested too deeply"
    return None


def _numbered(raws: Sequence[dict[str, Any]]) -> Iterator[Line]:
    for number, raw in enumerate(raws, 1):
        yield _line(number, raw)


def _line(number: int, raw: Any) -> Line:
    try:
        return Line(number, parse(MemoryItem, raw))
    except InvalidInput as error:
        return Line(number, None, str(error))
