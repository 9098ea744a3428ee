"""The ledger: append-only counts in the transactions that they count; the sums have to balance."""

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

from memlane.contract import Event, Ledger
from memlane.storage import queries
from memlane.storage.cluster import Shard

_SQL = queries.load("ledger")

Sums: TypeAlias = Mapping[str, int]
"""How often each event was counted, and what is open and parked now."""


def sums(shard: Shard, tenant: str | None) -> Sums:
    """The sums of a shard, of one tenant or of all, read in one statement."""
    return dict(shard.run(_SQL["balance"], {"tenant": tenant}))


def added(shards: Mapping[int, Sums | None]) -> Ledger:
    """The sums of all shards added up; None stands for a shard that does not answer."""
    total: Counter[str] = Counter()
    for found in shards.values():
        total.update(found or {})
    return Ledger(
        events={event: total[event.value] for event in Event},
        open=total["open now"],
        parked=total["parked now"],
        missing=tuple(number for number, found in shards.items() if found is None),
    )


def note(shard: Shard, tenant: str, event: Event, count: int) -> None:
    """Count an event that has no transaction of its own."""
    shard.write(_SQL["note"], {"tenant": tenant, "event": event.value, "count": count})
