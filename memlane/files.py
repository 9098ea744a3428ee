"""Files of memories: JSON Lines, and conversations in the form of the LoCoMo benchmark.

LoCoMo (Maharana et al., 2024) is a list of samples; each has a `conversation` of dated sessions of turns,
and `qa`: questions with the ids of the turns that hold the answer. A conversation becomes an agent, a
session a thread, a turn a memory with its id as key.
"""

import codecs
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO
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
    bytes: int = 0
    """How long the line is."""
    was: UUID | None = None
    """The id of a memory with a key where it was exported; where it is taken in it may get another."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to an agent, and the keys of the memories that hold the answer."""

    agent: str
    text: str
    evidence: frozenset[str]
    category: int


def read_memories(path: Path) -> Iterator[Line]:
    """The memories of a file, in its order; JSON Lines are read as they are asked for, `-` is standard input.

    Raises:
        InvalidInput: it cannot be read, or is neither of the two forms.
    """
    with _opened(path) as file:
        lines: Iterator[tuple[int, bytes]] = enumerate(file, 1)
        first = next((numbered for numbered in lines if numbered[1].strip()), None)
        if first is None:
            return
        number, line = first[0], first[1].removeprefix(codecs.BOM_UTF8)
        if line.lstrip().startswith(b"["):
            rest = file.read()
            samples = _samples(path, line + rest)
            if samples is not None:
                with _shape_of(path):
                    turns = [turn for sample in samples for turn in _turns(sample)]
                yield from (_checked(place, turn) for place, turn in enumerate(turns, 1))
                return
            lines = enumerate(rest.split(b"\n"), number + 1)
        for place, data in chain([(number, line)], lines):
            if data.strip():
                yield _json_line(place, data)


def read_questions(path: Path) -> list[Question]:
    """The questions of a LoCoMo file that have an answer.

    Raises:
        InvalidInput: it is not a LoCoMo file.
    """
    with _opened(path) as file:
        samples = _samples(path, file.read().removeprefix(codecs.BOM_UTF8))
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


def _samples(path: Path, data: bytes) -> list[Mapping[str, Any]] | None:
    """The samples of a LoCoMo file, or None if it is not one: no list, or only its first line is one."""
    if not data.lstrip().startswith(b"["):
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        first, _, rest = data.lstrip().partition(b"\n")
        if rest.lstrip().startswith(b"{") and not isinstance(_parsed(first), _NoJson):
            return None
        raise InvalidInput([FieldError("file", f"{path} is not JSON: {error}")]) from None
    if not found or not all(isinstance(s, dict) and "conversation" in s for s in found):
        raise InvalidInput([FieldError("file", f"{path} is a JSON list, but not of LoCoMo samples")])
    return [{"sample_id": f"conversation-{n}", **sample} for n, sample in enumerate(found, 1)]


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file, or standard input for `-`."""
    try:
        if str(path) == "-":
            yield sys.stdin.buffer if sys.stdin else BytesIO()
        else:
            with path.open("rb") as file:
                yield file
    except OSError as error:
        raise InvalidInput([FieldError("file", f"{path} cannot be read: {error.strerror}")]) from None


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


@dataclass(frozen=True, slots=True)
class _NoJson:
    """Why a line is no JSON."""

    why: str


def _parsed(line: bytes) -> Any:
    """A line's value, or why it has none."""
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError:
        return _NoJson("it is not text in UTF-8")
    except ValueError as error:
        return _NoJson(str(error))
    except RecursionError:
        return _NoJson("it is nested too deeply")


def _json_line(number: int, line: bytes) -> Line:
    """The memory of a line.

    One without a name of its own gets an id from its place and text, so that the same file again is recognised.
    """
    raw = _parsed(line)
    if isinstance(raw, _NoJson):
        return Line(number, None, f"is not JSON: {raw.why}")
    was = raw.pop("id") if isinstance(raw, dict) and raw.get("key") and "id" in raw else None
    found = _checked(number, raw)
    found = replace(found, bytes=len(line), was=None if was is None else _id(was))
    if found.item is None or found.item.id or found.item.key:
        return found
    id_ = uuid5(_LINES, f"{number}:{line.decode().strip()}")
    return replace(found, item=found.item.model_copy(update={"id": id_}))


def _id(value: object) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _checked(number: int, raw: Any) -> Line:
    try:
        return Line(number, parse(MemoryItem, raw))
    except InvalidInput as error:
        return Line(number, None, str(error))
