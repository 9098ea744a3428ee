"""What a file of memories would cost, one by one and in batches: requests, tokens, money and time; nothing is sent."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import TypeVar
from uuid import UUID

from memlane.contract.cost import Latency
from memlane.contract.money import MICRO
from memlane.files import Line

T = TypeVar("T")

Count = Callable[[Sequence[str]], Sequence[int]]
"""How many tokens each text has."""

_TENANT = "simulated"
"""Ids of keys are made with a tenant's name; whichever it is, the same keys are the same memories."""


@dataclass
class Told:
    """What a file says.

    Attributes:
        texts: what is embedded, once for each memory that is kept, in the file's order; None for one that brings its
            vector along.
        duplicates: lines that say again what an earlier one says, by key or id.
        conflicts: lines with another's key or id and other content; the first one counts.
        bad: lines that are no memory.
    """

    texts: list[str | None] = field(default_factory=list)
    duplicates: int = 0
    conflicts: int = 0
    bad: int = 0


@dataclass(frozen=True, slots=True)
class Prices:
    """What requests cost, and how long they take.

    Attributes:
        micro_per_million: micro-dollars for a million tokens.
        latencies: what was measured, by the number of texts.
        latency_s: how long a request takes where nothing was measured.
    """

    micro_per_million: int
    latencies: Sequence[Latency] = ()
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What all memories would cost in batches of one size.

    Attributes:
        batch: memories in one.
        requests: how many requests there would be.
        saved_requests: how many fewer than one for each memory.
        texts: how many texts they have.
        tokens: how many tokens.
        cost_micro: what they cost, in micro-dollars.
        seconds: how long they take, one after the other; None where nobody knows.
    """

    batch: int
    requests: int
    saved_requests: int
    texts: int
    tokens: int
    cost_micro: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a file would cost.

    Attributes:
        memories: how many are kept.
        duplicates: lines that say again what an earlier one says, by key or id.
        conflicts: lines with another's key or id and other content.
        bad: lines that are no memory.
        saved_texts: memories whose text is known from an earlier one, or that bring their vector along.
        saved_tokens: the tokens that need not be charged for these.
        saved_micro: what they would have cost, in micro-dollars.
        rows: by size of the batches.
    """

    memories: int
    duplicates: int
    conflicts: int
    bad: int
    saved_texts: int
    saved_tokens: int
    saved_micro: float
    rows: Sequence[Row]


def read(lines: Iterable[Line]) -> Told:
    """What a file says, as it would be accepted in a tenant that is new."""
    told = Told()
    firsts: dict[tuple[str, UUID], str] = {}
    for line in lines:
        if line.item is None:
            told.bad += 1
            continue
        named = (line.item.agent, line.item.identity(_TENANT))
        if named in firsts:
            told.duplicates += firsts[named] == line.item.text
            told.conflicts += firsts[named] != line.item.text
            continue
        firsts[named] = line.item.text
        told.texts.append(line.item.text if line.item.embedding is None else None)
    return told


def simulate(told: Told, batches: Sequence[int], count: Count, prices: Prices) -> Simulation:
    """What a file would cost in batches of these sizes.

    Args:
        told: what it says.
        batches: how many memories are in one.
        count: counts the tokens of texts.
        prices: what they cost.
    """
    different = list(dict.fromkeys(text for text in told.texts if text is not None))
    tokens = dict(zip(different, count(different), strict=True))
    total = sum(tokens.values())
    saved = sum(tokens[text] for text in told.texts if text is not None) - total
    return Simulation(
        memories=len(told.texts),
        duplicates=told.duplicates,
        conflicts=told.conflicts,
        bad=told.bad,
        saved_texts=len(told.texts) - len(different),
        saved_tokens=saved,
        saved_micro=saved * prices.micro_per_million / MICRO,
        rows=[_row(told.texts, batch, total, prices) for batch in batches],
    )


def _row(texts: Sequence[str | None], batch: int, tokens: int, prices: Prices) -> Row:
    sizes = Counter(_requests(texts, batch))
    requests = sum(sizes.values())
    return Row(
        batch=batch,
        requests=requests,
        saved_requests=len(texts) - requests,
        texts=sum(size * times for size, times in sizes.items()),
        tokens=tokens,
        cost_micro=tokens * prices.micro_per_million / MICRO,
        seconds=_seconds(sizes, prices),
    )


def _requests(texts: Sequence[str | None], batch: int) -> Iterator[int]:
    """How many texts each request has: those of a batch that are not known yet."""
    known: set[str] = set()
    for part in _parts(texts, batch):
        asked = {text for text in part if text is not None} - known
        known |= asked
        if asked:
            yield len(asked)


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def _seconds(sizes: Mapping[int, int], prices: Prices) -> float | None:
    total = 0.0
    for texts, times in sizes.items():
        seconds = measured(prices.latencies, texts)
        seconds = prices.latency_s if seconds is None else seconds
        if seconds is None:
            return None
        total += seconds * times
    return total


def measured(latencies: Sequence[Latency], texts: int) -> float | None:
    """How long a request with so many texts takes, between the sizes that were measured; None outside of them.

    Args:
        latencies: by size, each for those up to it.
        texts: how many.
    """
    points = sorted((one.texts, one.mean_s) for one in latencies)
    if points and points[0][0] / 2 < texts <= points[0][0]:
        return points[0][1]
    for (below, fast), (above, slow) in pairwise(points):
        if below < texts <= above:
            return fast + (slow - fast) * (texts - below) / (above - below)
    return None
