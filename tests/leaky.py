"""What `celery -A tests.leaky worker` starts: the worker of the product, but it keeps all that it has remembered."""

from dataclasses import replace

from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim, Done, Kind
from memlane.tasks.lane import Lane
from memlane.workers import drains
from memlane.workers.main import app

_LEAK: list[object] = []


def _leaky(work: drains.Work) -> drains.Work:
    def remember(lane: Lane, shard: Shard, claim: Claim) -> Done:
        _LEAK.append((claim, [job.raw.encode() for job in claim.jobs]))
        return work.work(lane, shard, claim)

    return replace(work, work=remember)


drains.WORK = {**drains.WORK, Kind.REMEMBER: _leaky(drains.WORK[Kind.REMEMBER])}

__all__ = ["app"]
