"""The ledger: append-only counts in the transactions that they count; the sums have to balance."""

from collections import Counter

from memlane.contract import Event, Ledger
from memlane.errors import NodeDown
from memlane.storage import queries
from memlane.storage.cluster import Cluster, Shard

_SQL = queries.load("ledger")


def balance(cluster: Cluster, tenant: str | None) -> Ledger:
    """The sums over all shards, of one tenant or of all; each shard is read in one statement."""
    sums: Counter[str] = Counter()
    missing = []
    for number in range(cluster.shard_count):
        try:
            sums.update(dict(cluster.shard(number).run(_SQL["balance"], {"tenant": tenant})))
        except NodeDown:
            missing.append(number)
    return Ledger(
        events={event: sums.get(event.value, 0) for event in Event},
        open=sums.get("open now", 0),
        parked=sums.get("parked now", 0),
        missing=tuple(missing),
    )


def note(shard: Shard, tenant: str, event: Event, count: int) -> None:
    """Count an event that has no transaction of its own."""
    shard.write(_SQL["note"], {"tenant": tenant, "event": event.value, "count": count})
