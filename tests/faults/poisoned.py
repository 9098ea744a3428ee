"""The worker app of the storm: as `memlane.workers.main`, but a memory with a mark in it kills who works on it.

So the product needs no hook of which only tests know.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import replace

from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim, Done, Kind
from memlane.tasks.lane import Lane
from memlane.workers import drains
from memlane.workers.main import app
from tests.faults.notes import POISON

__all__ = ["app"]


def _deadly(work: Callable[[Lane, Shard, Claim], Done]) -> Callable[[Lane, Shard, Claim], Done]:
    def run(lane: Lane, shard: Shard, claim: Claim) -> Done:
        if any(POISON in job.raw for job in claim.jobs):
            os.kill(os.getpid(), signal.SIGKILL)
        return work(lane, shard, claim)

    return run


_REMEMBER = drains.WORK[Kind.REMEMBER]

drains.WORK = {**drains.WORK, Kind.REMEMBER: replace(_REMEMBER, work=_deadly(_REMEMBER.work))}
