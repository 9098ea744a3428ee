"""The guard: sees to it that what is written is confirmed by standbys, or says loudly that it is not."""

from collections.abc import Callable, Sequence
from threading import Event, Thread

import psycopg
import structlog

from memlane.embedded import replication
from memlane.embedded.folder import Replication
from memlane.embedded.group import CONFIRMING, Group
from memlane.errors import MemlaneError

log = structlog.get_logger(__name__)

_EVERY_S = 0.5


def wanted(policy: Replication, group: Group, following: int) -> str:
    """Which standbys have to confirm what is written, while so many follow."""
    if policy is Replication.AVAILABILITY and following < CONFIRMING:
        return ""
    return group.confirmed_by


class Guard:
    """Looks after the nodes that have standbys, from a thread of its own.

    Args:
        groups: the nodes with standbys, as they are now.
        policy: what happens when too few standbys live.
    """

    def __init__(self, groups: Callable[[], Sequence[Group]], policy: Replication) -> None:
        self._groups = groups
        self._policy = policy
        self._alarmed: set[str] = set()
        self._stop = Event()
        self._thread = Thread(target=self._watch, name="guard", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            for group in self._groups():
                try:
                    self.look(group)
                except (psycopg.Error, MemlaneError, OSError) as error:
                    log.debug("guard.no_primary", node=group.name, why=type(error).__name__)

    def look(self, group: Group) -> None:
        """Look after one node."""
        seen = replication.seen(group.primary)
        following = len(seen.following)
        names = wanted(self._policy, group, following)
        if seen.confirmed_by != names:
            replication.confirm_by(group.primary, names)
        self._tell(group.name, following)

    def _tell(self, node: str, following: int) -> None:
        if following < CONFIRMING and node not in self._alarmed:
            self._alarmed.add(node)
            waits = self._policy is Replication.DURABILITY
            log.error("replication.too_few_standbys", node=node, writes="wait" if waits else "go on, on one disk alone")
        elif following >= CONFIRMING and node in self._alarmed:
            self._alarmed.discard(node)
            log.warning("replication.restored", node=node, standbys=following)
