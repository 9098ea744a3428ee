"""Returns: leases that are given back because something else was down, now or when their node answers again.

An outage is no death of the jobs. But while their node is down a lease cannot be given back, and may run
out meanwhile: the sweep counts that as a death. So what could not be given back is remembered, and as
soon as the node answers either the lease is given back or the death is taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock, Thread
from time import sleep
from uuid import UUID

import structlog

from memlane.errors import Unavailable
from memlane.storage import jobs
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Owed:
    """A lease that its node has to be told of; without its jobs where the claim's answer was lost."""

    shard: Shard
    token: UUID
    numbers: Sequence[int] | None


class Returns:
    """Gives leases back; what a node that is down cannot take is kept, and tried by a thread until it can.

    Make it after the fork.

    Args:
        pause_s: between two tries.
    """

    def __init__(self, pause_s: float = 1.0) -> None:
        self._pause_s = pause_s
        self._owed: list[_Owed] = []
        self._lock = Lock()
        self._thread: Thread | None = None

    def give_back(self, shard: Shard, claim: Claim) -> None:
        """Give a claim back as it was; never raises, and does not wait for a node that is down."""
        self._settle(_Owed(shard, claim.token, claim.numbers))

    def give_back_unseen(self, shard: Shard, token: UUID) -> None:
        """As `give_back`, for a claim whose answer was lost: it may have been none."""
        self._settle(_Owed(shard, token, None))

    def _settle(self, owed: _Owed) -> None:
        if _settled(owed):
            return
        with self._lock:
            self._owed.append(owed)
            if self._thread is None:
                self._thread = Thread(target=self._try_again, name="returns", daemon=True)
                self._thread.start()

    def _try_again(self) -> None:
        while True:
            sleep(self._pause_s)
            with self._lock:
                owed = list(self._owed)
            down: set[str] = set()
            for one in owed:
                if one.shard.node.name in down:
                    continue
                if _settled(one):
                    with self._lock:
                        self._owed.remove(one)
                else:
                    down.add(one.shard.node.name)
            with self._lock:
                if not self._owed:
                    self._thread = None
                    return


def _settled(owed: _Owed) -> bool:
    """Give a lease back, or take back the deaths that it was counted for; False if the node has to be asked again."""
    try:
        jobs.give_back(owed.shard, owed.token, owed.numbers)
    except Unavailable:
        return False
    except Exception:  # the lease expires by itself, and nothing is lost but a death that was none
        log.exception("lease.not_given_back", shard=owed.shard.number)
    return True
