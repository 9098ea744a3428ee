"""The sweep: finds work that nobody does. Run often, by anybody, any number of times: it is idempotent.

On each shard it ends sessions that stalled, takes jobs from leases that ran out, sends messages on
whose shard was down, and wakes a drain for due work that nobody holds. It ignores the marks of
wake-ups: a mark whose message was lost must not hide work.
"""

from collections.abc import Callable
from time import monotonic

import structlog

from memlane.errors import MemlaneError
from memlane.storage import jobs, strays
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind
from memlane.tasks import producers
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

Send = Callable[[Kind, int], bool]
"""Sends a wake-up for a kind of job in a shard now."""

_STRAYS_AT_ONCE = 100


def sweep(lane: Lane, send: Send) -> None:
    """Sweep all shards; one that does not answer is left for the next time."""
    begun = monotonic()
    for number in range(lane.cluster.shard_count):
        try:
            lane.cluster.on(number, lambda shard: sweep_shard(lane, shard, send))
        except MemlaneError as error:
            log.warning("sweep.shard_skipped", shard=number, why=str(error))
    log.debug("sweep.done", ms=round((monotonic() - begun) * 1000))


def sweep_shard(lane: Lane, shard: Shard, send: Send) -> None:
    """Sweep one shard."""
    settings = lane.settings
    if ended := jobs.end_stalled_sessions(shard, settings.lease_s):
        log.warning("sweep.sessions_ended", shard=shard.number, sessions=ended)
    freed, parked = jobs.expire(shard, settings.claim_size, settings.deaths_alone)
    if freed:
        log.warning("sweep.leases_expired", shard=shard.number, jobs=freed, parked=parked)
    for kind in jobs.idle_work(shard):
        send(kind, shard.number)
    _forward_strays(lane, shard)


def _forward_strays(lane: Lane, shard: Shard) -> None:
    """Send messages on whose shard was down when they came; those whose shard still is stay here."""
    for stray in strays.waiting(shard, _STRAYS_AT_ONCE):
        try:
            lane.cluster.shard(stray.target).ping()
        except MemlaneError:
            continue
        producers.deliver(lane, stray.task, stray.payload, str(stray.id))
        strays.drop(shard, stray.id)
        log.info("stray.sent_on", task=stray.task, tenant=stray.tenant, shard=stray.target)
