"""The sweep: finds work that nobody does. Run often, by anybody, any number of times: it is idempotent.

On each shard it ends sessions that stalled, takes jobs from leases that ran out, sends messages on whose
shard was down, or that were held back and have room now, and wakes a drain for due work that nobody
holds. It ignores the marks of wake-ups: a mark whose message was lost must not hide work.
"""

from collections.abc import Callable, Sequence
from threading import Thread
from time import monotonic

import structlog

from memlane.errors import MemlaneError
from memlane.storage import jobs, leases, spending, strays
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind
from memlane.tasks import holding, producers
from memlane.tasks.lane import Lane
from memlane.tasks.rates import Rates

log = structlog.get_logger(__name__)

Send = Callable[[Kind, int], bool]
"""Sends a wake-up for a kind of job in a shard now."""

_STRAYS_AT_ONCE = 100


class Sweep:
    """Sweeps all shards, those of each node in a thread of their own; one that does not answer waits for next time.

    Args:
        lane: this process's.
        send: how drains are woken.
        patience_s: how long a node is waited for, if not until the next sweep is due; if it hangs, the others are
            swept all the same.
        rates: this process's; None: it does not count what it sends on.
    """

    def __init__(self, lane: Lane, send: Send, patience_s: float | None = None, rates: Rates | None = None) -> None:
        self._lane = lane
        self._send = send
        self._rates = rates
        self._patience_s = patience_s or lane.settings.sweep_every_s
        self._under_way: dict[str, Thread] = {}

    def __call__(self) -> None:
        """Sweep once; a node that is still being swept is left out."""
        begun = monotonic()
        shards: dict[str, list[int]] = {}
        for number in range(self._lane.cluster.shard_count):
            shards.setdefault(self._lane.cluster.node_of(number) or "", []).append(number)
        begun_now = []
        for node, numbers in shards.items():
            if node in self._under_way and self._under_way[node].is_alive():
                log.warning("sweep.node_hangs", node=node)
                continue
            thread = Thread(target=self._sweep_all, args=(numbers,), name=f"sweep {node}", daemon=True)
            thread.start()
            self._under_way[node] = thread
            begun_now.append(thread)
        begun_now.append(self._charge())
        for thread in begun_now:
            thread.join(max(0.0, begun + self._patience_s - monotonic()))
        log.debug("sweep.done", ms=round((monotonic() - begun) * 1000))

    def _charge(self) -> Thread:
        """Charge what was set aside for calls that nobody settled."""

        def work() -> None:
            try:
                while spending.charge_one(self._lane.cluster.control):
                    log.warning("sweep.call_charged")
            except MemlaneError as error:
                log.warning("sweep.charges_skipped", why=str(error))

        thread = Thread(target=work, name="sweep charges", daemon=True)
        thread.start()
        return thread

    def _sweep_all(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            try:
                self._lane.cluster.on(number, lambda shard: sweep_shard(self._lane, shard, self._send, self._rates))
            except MemlaneError as error:
                log.warning("sweep.shard_skipped", shard=number, why=str(error))
            except Exception:  # the other shards have to be swept all the same
                log.exception("sweep.shard_failed", shard=number)


def sweep_shard(lane: Lane, shard: Shard, send: Send, rates: Rates | None = None) -> None:
    """Sweep one shard."""
    settings = lane.settings
    if ended := jobs.end_stalled_sessions(shard, settings.lease_s):
        log.warning("sweep.sessions_ended", shard=shard.number, sessions=ended)
    freed, parked = leases.expire(shard, settings.claim_size, settings.deaths_alone)
    if freed:
        log.warning("sweep.leases_expired", shard=shard.number, jobs=freed, parked=parked)
    for kind in jobs.idle_work(shard):
        send(kind, shard.number)
    _forward_strays(lane, shard, rates)
    holding.send_held(lane, rates, shard)


def _forward_strays(lane: Lane, shard: Shard, rates: Rates | None) -> None:
    """Send messages on whose shard was down when they came; those whose shard still is stay here."""
    for target in strays.targets(shard):
        try:
            lane.cluster.shard(target).ping()
        except MemlaneError:
            continue
        for stray in strays.waiting(shard, target, _STRAYS_AT_ONCE):
            producers.deliver(lane, stray.task, stray.payload, str(stray.id), rates)
            strays.drop(shard, stray.id)
            log.info("stray.sent_on", task=stray.task, tenant=stray.tenant, shard=target)
