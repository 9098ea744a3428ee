"""Retention: lets go of what is kept for a time only, and puts the ledger's old rows together.

What is promised to go comes first, and the ledger, which only becomes smaller, last.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from random import shuffle
from typing import TypeVar

import structlog

from memlane.beat.duty import DAY_S, Slice
from memlane.errors import MemlaneError
from memlane.storage import progress
from memlane.storage import retention as kept
from memlane.storage.cluster import Shard
from memlane.storage.retention import Questions
from memlane.tasks import forget
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

T = TypeVar("T")

_DUTY = "retention"

_SLACK_S = 3600.0
"""A question's vector is kept a moment after the question came, and is of use until then at least."""

_ALL = "all"
"""The place of who has gone through everything."""

Steps = Iterator[int]
"""Steps of which none takes long; each says how many rows went."""


def retention(lane: Lane, slice_: Slice) -> str:
    """Do what is due in control and on all shards; one that does not answer is left for next time.

    The shards come in any order, so that one that takes the whole slice does not keep the others from their turn.
    """
    went: Counter[str] = Counter()
    for what, steps in _in_control(lane):
        went[what] += _worked_off(what, steps, slice_)
    shards = lane.cluster.shards()
    shuffle(shards)
    for of_shard in (_promised, _other):
        for shard in shards:
            for what, steps in of_shard(lane, shard):
                went[what] += _worked_off(what, steps, slice_, shard.number)
    for what, count in went.items():
        lane.measures.let_go(what, count)
    did = [f"{what} {count}" for what, count in sorted(went.items()) if count]
    return ", ".join(did + ["the slice was too short"] * slice_.over) or "nothing was due"


def _worked_off(what: str, steps: Steps, slice_: Slice, shard: int | None = None) -> int:
    total = 0
    try:
        while not slice_.over and (went := next(steps, None)) is not None:
            total += went
    except MemlaneError as error:
        log.warning("retention.skipped", what=what, shard=shard, why=str(error))
    return total


def _in_control(lane: Lane) -> Iterable[tuple[str, Steps]]:
    control, days = lane.cluster.control, lane.settings.usage_days
    for what in kept.SHORT_LIVED:
        yield what, _once(partial(kept.drop_short_lived, control, what))
    for what in kept.BY_DAYS:
        yield what, _until_none(partial(kept.drop_by_days, control, what, days))


def _promised(lane: Lane, shard: Shard) -> Iterable[tuple[str, Steps]]:
    """What says who asked for what: it goes in time on all shards, before anything else is begun."""
    days = lane.settings.query_log_days
    unused_s = days * 86_400.0 - _SLACK_S
    yield "queries", _questions(lane, partial(kept.drop_queries, shard, days), unused_s)
    yield "patterns", _questions(lane, partial(kept.drop_patterns, shard), unused_s)


def _other(lane: Lane, shard: Shard) -> Iterable[tuple[str, Steps]]:
    settings = lane.settings
    if settings.embedding_cache_days is not None:
        yield "embeddings", _cache(lane, shard, settings.embedding_cache_days)
    if settings.forget_below is not None:
        yield "faded", _faded(lane, shard, settings.forget_below)
    yield "ledger", _ledger(lane, shard)


def _once(step: Callable[[], None]) -> Steps:
    step()
    yield 0


def _until_none(step: Callable[[], int]) -> Steps:
    while went := step():
        yield went


def _questions(lane: Lane, step: Callable[[], Questions], unused_s: float) -> Steps:
    """What agents were asked, with the vectors of those questions that none of the tenant's was asked since."""
    while (gone := step()).rows:
        for tenant, hashes in gone.hashes.items():
            forget.drop_questions(lane, tenant, hashes, unused_s)
        yield gone.rows


def _ledger(lane: Lane, shard: Shard) -> Steps:
    """What lies close together, and then what lies far apart."""
    merge = partial(kept.merge_ledger, shard)
    return _by_pages(lane, shard, "ledger", partial(kept.compact_ledger, shard), merge)


def _cache(lane: Lane, shard: Shard, days: int) -> Steps:
    return _by_pages(lane, shard, "embedding_cache", lambda page: kept.drop_cached(shard, page, days))


def _by_pages(
    lane: Lane, shard: Shard, table: str, step: Callable[[int], int], last: Callable[[], int] = lambda: 0
) -> Steps:
    """Once a day through all pages of a table, from where the slice before ended; then a last step until it is done."""
    control, part = lane.cluster.control, f"{table} {shard.number}"
    first = _begin(lane, part, 0)
    if first is None:
        return
    for page in range(first, kept.pages(shard, table), kept.PAGES):
        yield step(page)
        progress.keep(control, _DUTY, part, page + kept.PAGES)
    yield from _until_none(last)
    progress.keep(control, _DUTY, part, _ALL)


def _faded(lane: Lane, shard: Shard, below: float) -> Steps:
    """Once a day through all memories, from where the slice before ended; those that have faded are forgotten."""
    part = f"faded {shard.number}"
    first = _begin(lane, part, [0, 0])
    if first is None:
        return
    after = (int(first[0]), int(first[1]))
    while found := kept.faded(shard, after, below):
        yield sum(forget.remove_faded(lane, shard, one) for one in found)
        after = found[-1].agent, found[-1].last
        progress.keep(lane.cluster.control, _DUTY, part, list(after))
    progress.keep(lane.cluster.control, _DUTY, part, _ALL)


def _begin(lane: Lane, part: str, first: T) -> T | None:
    """Where to go on; None if it is not due."""
    found = progress.place(lane.cluster.control, _DUTY, part)
    if found is None:
        return first
    place, ago_s = found
    if place != _ALL:
        going_on: T = place
        return going_on
    return first if ago_s > DAY_S else None
