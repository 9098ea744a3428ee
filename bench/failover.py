"""How long nobody writes after a primary was lost and a standby was promoted, and whether anything is lost.

    python -m memlane.bench.failover [--rounds 5] [--json FILE]

It starts a stack whose node has two standbys, in a temporary directory. In each round the primary is killed and cannot
be started again, under load; a standby is promoted, and the former primary rejoins. In the end every memory with a
receipt is looked for by SQL.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import psycopg
from psycopg.sql import SQL, Identifier

from memlane.admin import Admin
from memlane.bench.figures import Circumstances, circumstances
from memlane.bench.outage import killed
from memlane.bench.output import publish, say, told
from memlane.bench.servers import Servers, servers
from memlane.client import Client
from memlane.embedded import failover
from memlane.errors import MemlaneError

TARGET_S = 2.0
"""From the promotion until receipts are given again."""

_NODE = "node-1"
_CONTENT = SQL("SELECT content FROM {}.memories")
_WRITERS = 4
_LOAD_S = 3.0
"""How long there is load before and after."""


@dataclass(frozen=True, slots=True)
class Round:
    """One failover.

    Attributes:
        promotion_s: from the order until the standby was the primary; the command line's own start is not in it.
        writing_s: from then until the first receipt.
        all_writing_s: from then until each writer had one.
        recalls: how many were answered from a standby meanwhile.
        rejoin_s: until the former primary followed.
    """

    promotion_s: float
    writing_s: float
    all_writing_s: float
    recalls: int
    rejoin_s: float


@dataclass(frozen=True, slots=True)
class Failovers:
    """All rounds, and what they rest on; lost and doubled are memories with a receipt."""

    rounds: Sequence[Round]
    receipts: int
    lost: int
    doubled: int
    circumstances: Circumstances
    versions: Mapping[str, str]

    @property
    def good(self) -> bool:
        """Whether nothing was lost, and the target was met each time."""
        return not self.lost and not self.doubled and all(one.writing_s <= TARGET_S for one in self.rounds)


class _Writer(Thread):
    """Hands over one memory after the other; the same again as long as it has no receipt for it."""

    def __init__(self, here: Servers, number: int, stop: Event) -> None:
        super().__init__(name=f"writer {number}", daemon=True)
        self.receipts: dict[str, float] = {}
        self._client = Client(here.url, here.secrets.tenant_key, retries=0)
        self._number, self._halt = number, stop

    def run(self) -> None:
        place = 0
        while not self._halt.is_set():
            content = f"memory {place} of writer {self._number}"
            try:
                self._client.remember(f"agent-{self._number}", content, key=str(place))
            except MemlaneError:
                sleep(0.05)
                continue
            self.receipts[content] = monotonic()
            place += 1
        self._client.close()

    def first_after(self, moment: float) -> float | None:
        """When it got its first receipt after a moment."""
        return next((at for at in list(self.receipts.values()) if at > moment), None)


def measure(rounds: int, progress: Callable[[str], None]) -> Failovers:
    """Fail over so many times."""
    progress("starting a stack whose node has two standbys")
    with servers(50, standbys=2) as here, closing(Admin(here.url, here.secrets.admin_key)) as admin:
        stop = Event()
        writers = [_Writer(here, number, stop) for number in range(_WRITERS)]
        for writer in writers:
            writer.start()
        done = []
        for number in range(rounds):
            done.append(_round(here, writers))
            progress(f"failover {number + 1}: receipts again after {done[-1].writing_s:.2f} s")
        stop.set()
        for writer in writers:
            writer.join()
        here.settle()
        receipts = [content for writer in writers for content in writer.receipts]
        found = _contents(here)
        lost = len(set(receipts) - set(found))
        doubled = len(found) - len(set(found))
        return Failovers(done, len(receipts), lost, doubled, circumstances(admin.status()), here.versions())


def _round(here: Servers, writers: Sequence[_Writer]) -> Round:
    sleep(_LOAD_S)
    primary = failover.group_of(here.folder, _NODE).primary.name
    with killed(here, primary), Client(here.url, here.secrets.tenant_key, retries=0) as client:
        recalls = sum(_recalled(client) for _ in range(20))
        begun = monotonic()
        failover.promote(here.folder, _NODE)
        promoted = monotonic()
        firsts = [_wait(writer, promoted) for writer in writers]
    rejoining = monotonic()
    failover.rejoin(here.folder, _NODE, lambda _: None)
    return Round(
        round(promoted - begun, 3),
        round(min(firsts) - promoted, 3),
        round(max(firsts) - promoted, 3),
        recalls,
        round(monotonic() - rejoining, 3),
    )


def _recalled(client: Client) -> bool:
    """Whether a recall is answered from a standby."""
    sleep(0.1)
    try:
        found = client.recall("agent-0", "what did the writer say?")
    except MemlaneError:
        return False
    return bool(found.hits) and any("standby" in note for note in found.degraded)


def _wait(writer: _Writer, moment: float) -> float:
    while (at := writer.first_after(moment)) is None:
        sleep(0.005)
    return at


def _contents(here: Servers) -> list[str]:
    """Every content on the node, by SQL."""
    with psycopg.connect(failover.group_of(here.folder, _NODE).uri(), autocommit=True) as connection:
        schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^shard_'").fetchall()
        return [
            str(content)
            for (schema,) in schemas
            for (content,) in connection.execute(_CONTENT.format(Identifier(schema)))
        ]


def report(found: Failovers) -> str:
    """Everything, for people, in Markdown."""
    rows = [
        f"| {number} | {one.promotion_s:.2f} | {one.writing_s:.2f} | {one.all_writing_s:.2f} | {one.recalls} of 20 "
        f"| {one.rejoin_s:.1f} |"
        for number, one in enumerate(found.rounds, 1)
    ]
    meant = (
        f"A primary with two standbys is killed under {_WRITERS} writers, and a standby is promoted (target: receipts "
        f"again within {TARGET_S:g} s of the promotion, and nothing lost):"
    )
    lines = [
        meant,
        "",
        "| round | promotion, s | first receipt after it, s | each writer, s | recalls meanwhile | rejoined in s |",
        "| ----- | ------------ | ------------------------- | -------------- | ----------------- | ------------- |",
        *rows,
        "",
        f"Memories with a receipt: {found.receipts}; lost {found.lost}, doubled {found.doubled}.",
        "",
        *told(found.circumstances, found.versions),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure once, and print; the exit code is 1 if something was lost, or the target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one JSON document as well")
    given = parser.parse_args()
    found = measure(given.rounds, say)
    publish(found, report(found), given.json)
    sys.exit(not found.good)


if __name__ == "__main__":
    main()
