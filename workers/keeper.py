"""The keeper: renews a lease while its work goes on, and gives it back when the process has to stop.

It is a thread, since the work may sit in a call to the provider that cannot be interrupted. A lease
that is gone is not mourned here: the fence tells whoever comes to finish under it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic

import structlog

from memlane.errors import MemlaneError
from memlane.storage import leases
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim

log = structlog.get_logger(__name__)

_LOOK_S = 0.5
"""How often the keeper looks whether the process has to stop."""


@contextmanager
def kept(shard: Shard, claim: Claim, lease_s: float, stopping: Callable[[], bool], grace_s: float) -> Iterator[None]:
    """Keep a claim's lease for the time of the block.

    Args:
        shard: where the claim is.
        claim: what is held.
        lease_s: how long each renewal holds.
        stopping: whether the process was asked to stop.
        grace_s: how long the work may go on then before its lease is given back.
    """
    done = Event()
    thread = Thread(target=_keep, args=(shard, claim, lease_s, stopping, grace_s, done), name="keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def _keep(
    shard: Shard, claim: Claim, lease_s: float, stopping: Callable[[], bool], grace_s: float, done: Event
) -> None:
    renewed = monotonic()
    release_at: float | None = None
    while not done.wait(min(_LOOK_S, lease_s / 3)):
        now = monotonic()
        if stopping():
            release_at = release_at or now + grace_s
            if now >= release_at:
                leases.release_quietly(shard, claim.token)
                log.info("lease.given_back", shard=shard.number, kind=claim.kind, jobs=len(claim.jobs))
                return
        if now - renewed >= lease_s / 3:
            renewed = now
            if not _renewed(shard, claim, lease_s):
                return


def _renewed(shard: Shard, claim: Claim, lease_s: float) -> bool:
    try:
        held = leases.renew(shard, claim.token, lease_s)
    except MemlaneError as error:
        log.warning("lease.not_renewed", shard=shard.number, kind=claim.kind, why=str(error))
        return True
    if not held:
        log.warning("lease.lost", shard=shard.number, kind=claim.kind, jobs=len(claim.jobs))
    return held
