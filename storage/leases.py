"""Leases: held for longer, given back, run out; and the deaths that are counted for them, or taken back."""

from collections.abc import Sequence
from contextlib import suppress
from math import ceil, log2
from time import sleep
from uuid import UUID

from memlane.errors import NodeDown
from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.refusals import REFUSE_S

_SQL = queries.load("jobs")

TIMELINE = _SQL["timeline"].text
"""The history that a node writes, as a part of statements."""


def renew(shard: Shard, token: UUID, lease_s: float) -> bool:
    """Hold a lease for longer; False if it is lost."""
    return bool(shard.run(_SQL["renew"], {"token": token, "lease_s": lease_s}))


def release(shard: Shard, token: UUID) -> int:
    """Give the jobs of a lease back as they were; how many."""
    return int(shard.write(_SQL["release"], {"token": token})[0][0])


def give_back(shard: Shard, token: UUID, numbers: Sequence[int] | None = None) -> None:
    """Give the jobs of a lease back as they were; if it ran out meanwhile, that was no death.

    Args:
        shard: where the lease is.
        token: of the lease.
        numbers: of its jobs; None if they are not known.

    Raises:
        ShardMoved: that has to be said where it is now.
        Unavailable: the node has to be told when it answers again.
    """
    if not release(shard, token):
        not_dead(shard, token, numbers)


def release_quietly(shard: Shard, token: UUID) -> None:
    """Give a lease back if the node answers, now or when it may be asked again; else the lease expires by itself."""
    with suppress(Exception):  # whatever it is, expiry is the answer
        try:
            release(shard, token)
        except NodeDown:
            sleep(2 * REFUSE_S)
            release(shard, token)


def at_work(shard: Shard, kind: str, lease_s: float) -> int:
    """How many drains are at work on a kind of jobs; a holder that has died counts for half of its lease."""
    return int(shard.run(_SQL["at_work"], {"kind": kind, "lease_s": lease_s})[0][0])


def fail(shard: Shard, token: UUID, error: str) -> None:
    """Say that the work of a lease failed, and not for want of somebody else: it counts as a death."""
    shard.run(_SQL["fail"], {"token": token, "error": error})


def expire(shard: Shard, claim_size: int, deaths_alone: int) -> tuple[int, int]:
    """Take jobs from leases that ran out; how many were freed, and how many of them are parked now."""
    params = {"deaths": parking_deaths(claim_size, deaths_alone)}
    freed, parked = shard.write(_SQL["expire"], params, timeline=TIMELINE)[0]
    return int(freed), int(parked)


def parking_deaths(claim_size: int, deaths_alone: int) -> int:
    """At how many deaths a job is parked: claims halve until it is alone, then it may die so often alone."""
    return ceil(log2(claim_size)) + deaths_alone if claim_size > 1 else deaths_alone


def not_dead(shard: Shard, token: UUID, numbers: Sequence[int] | None = None) -> None:
    """A holder that was late, not dead, takes the deaths back that were counted for its lease.

    Args:
        shard: where the lease was.
        token: of the lease.
        numbers: of its jobs; None if they are not known, so that all suspects have to be looked at.
    """
    shard.write(_SQL["not_dead"], {"token": token, "numbers": None if numbers is None else list(numbers)})
