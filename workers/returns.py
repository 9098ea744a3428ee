"""Returns: leases that are given back because something else was down, now or when their node answers again.

An outage is no death of the jobs. But while their node is down a lease cannot be given back, and may run
out meanwhile: the sweep counts that as a death. So what could not be given back is remembered, and as
soon as the node answers, or the shard is found where it has moved, either the lease is given back or the
death is taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock, Thread
from time import sleep
from uuid import UUID

import structlog

from memlane.errors import Unavailable
from memlane.storage import leases
from memlane.storage.cluster import Cluster, Shard
from memlane.storage.jobs import Claim

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Owed:
    """A lease that its shard has to be told of; without its jobs where the claim's answer was lost."""

    shard: int
    token: UUID
    numbers: Sequence[int] | None


class Returns:
    """Gives leases back; what a node that is down cannot take is kept, and tried by a thread until it can.

    Make it after the fork.

    Args:
        cluster: this process's.
        pause_s: between two tries.
    """

    def __init__(self, cluster: Cluster, pause_s: float = 1.0) -> None:
        self._cluster = cluster
        self._pause_s = pause_s
        self._owed: list[_Owed] = []
        self._lock = Lock()
        self._thread: Thread | None = None

    def give_back(self, shard: Shard, claim: Claim) -> None:
        """Give a claim back as it was; never raises, and does not wait for a node that is down."""
        self._settle(_Owed(shard.number, claim.token, claim.numbers))

    def give_back_unseen(self, shard: Shard, token: UUID) -> None:
        """As `give_back`, for a claim whose answer was lost: it may have been none."""
        self._settle(_Owed(shard.number, token, None))

    def _settle(self, owed: _Owed) -> None:
        if self._settled(owed):
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
            down: set[str | None] = set()
            for one in owed:
                node = self._cluster.node_of(one.shard)
                if node in down:
                    continue
                if self._settled(one):
                    with self._lock:
                        self._owed.remove(one)
                else:
                    down.add(node)
            with self._lock:
                if not self._owed:
                    self._thread = None
                    return

    def _settled(self, owed: _Owed) -> bool:
        """Whether the shard knows: the lease is given back, or the deaths that it was counted for are taken back."""
        try:
            self._cluster.on(owed.shard, lambda here: leases.give_back(here, owed.token, owed.numbers))
        except Unavailable:
            return False
        except Exception:  # the lease expires by itself, and nothing is lost but a death that was none
            log.exception("lease.not_given_back", shard=owed.shard)
        return True
