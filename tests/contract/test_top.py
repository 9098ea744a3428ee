"""`memlane top`: what it counts is right, it is renewed in a terminal, and it outlives its gateway."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import pytest
from rich.console import Console
from typer.testing import CliRunner

from memlane.admin import Admin
from memlane.cli.app import app
from memlane.cli.frames import Frame, Look, frame
from memlane.cli.screen import screen
from memlane.contract.cost import BudgetRequest, Period
from memlane.contract.health import Band, HealthSummary
from memlane.contract.histogram import quantile
from memlane.contract.live import Live
from memlane.storage import budgets, processes
from memlane.storage.budgets import BudgetName
from memlane.storage.processes import Report
from memlane.tasks.lane import Lane
from memlane.tasks.measures import Measures
from tests.commands import MEMLANE
from tests.proxy import Proxy
from tests.support import accepted, item


def told(lane: Lane, measures: Measures, name: str = "host:1:a", class_: str = "ingest") -> None:
    """A worker says what it has counted."""
    now = measures.now()
    processes.begin(lane.cluster.control, name, class_, Report(now.gauges, now.counts))


@pytest.fixture
def admin(gateway: str, admin_key: str) -> Iterator[Admin]:
    with Admin(gateway, admin_key) as admin:
        yield admin


def test_what_all_processes_say_is_told_together(lane: Lane, admin: Admin) -> None:
    first, second = Measures("ingest"), Measures("ingest")
    for measures, jobs in ((first, 10), (second, 30)):
        measures.claim("remember", jobs, 0.5, {"stored": jobs, "failed": 1})
        measures.cache("embeddings", hits=3, misses=1)
        measures.memory(float(jobs), 1)
    first.operation("recall", 0.004)
    second.operation("recall", 2.0, "NodeDown")
    told(lane, first, "host:1:a")
    told(lane, second, "host:2:b")
    found = admin.live()
    (drain,) = found.drains
    assert (drain.kind, drain.claims, drain.jobs, drain.outcomes) == ("remember", 2, 40, {"stored": 40, "failed": 2})
    (operation,) = found.operations
    assert (operation.count, operation.errors) == (2, {"NodeDown": 1})
    assert (operation.buckets["0.005"], operation.buckets["+Inf"]) == (1, 2)
    assert [(c.name, c.hits, c.misses) for c in found.caches] == [("embeddings", 6, 2)]
    (ingest,) = [one for one in found.classes if one.name == "ingest"]
    assert (ingest.living, ingest.lost, ingest.memory_percent, ingest.throttle) == (2, 0, 30.0, 1)
    assert ingest.resident_bytes > 2e6
    assert ingest.cpu_s > 0


def test_budgets_near_their_limits_are_told(lane: Lane, admin: Admin, tenant_key: str) -> None:
    control = lane.cluster.control
    assert tenant_key
    budgets.set_up(control, BudgetName("acme", "", Period.DAY), BudgetRequest(limit_micro=1000))
    budgets.set_up(control, BudgetName("acme", "ada", Period.DAY), BudgetRequest(limit_micro=1000))
    control.run(
        b"INSERT INTO control.spending (tenant, agent, period, starts, settled, reserved, limit_micro)"
        b" VALUES ('acme', 'ada', 'day', control.today(), 900e6::bigint, 0, 1000)"
        b" ON CONFLICT (tenant, agent, period, starts) DO UPDATE SET settled = EXCLUDED.settled"
    )
    assert [(b.agent, round(b.percent)) for b in admin.live().budgets] == [("ada", 90)]


def test_rates_are_what_went_on_between_two_looks(lane: Lane, admin: Admin) -> None:
    measures = Measures("ingest")
    measures.claim("remember", 5, 0.1, {"stored": 5})
    told(lane, measures)
    before = admin.live()
    measures.claim("remember", 20, 0.1, {"stored": 20})
    for seconds in (0.001, 0.02, 0.02, 0.4):
        measures.operation("recall", seconds)
    told(lane, measures)
    now = admin.live()
    now = Live(**{**{f: getattr(now, f) for f in Live.__slots__}, "at": before.at + timedelta(seconds=10)})
    shown = frame("http://h", before, Look(admin.status(), now, None))
    (drain,) = shown.drains
    assert (drain.claims_per_s, drain.jobs_per_s, drain.outcomes_per_s) == (0.1, 2.0, {"stored": 2.0})
    (recall,) = shown.operations
    assert recall.per_s == 0.4
    assert recall.p50_ms is not None
    assert recall.p95_ms is not None
    assert 10 < recall.p50_ms <= 25
    assert 250 < recall.p95_ms <= 500
    assert frame("http://h", None, Look(admin.status(), now, None)).drains[0].jobs_per_s == 0.0


def test_quantiles_are_those_of_histogram_quantile() -> None:
    buckets = {"0.1": 0.0, "0.2": 10.0, "0.4": 20.0, "+Inf": 20.0}
    assert quantile(0.5, buckets) == pytest.approx(0.2)
    assert quantile(0.75, buckets) == pytest.approx(0.3)
    assert quantile(0.99, {"0.1": 1.0, "+Inf": 10.0}) == 0.1
    assert quantile(0.5, {"0.1": 0.0, "+Inf": 0.0}) is None
    assert quantile(0.5, {}) is None


def test_one_frame_as_text_and_as_json(lane: Lane, gateway: str, admin_key: str) -> None:
    accepted(lane, item("tea"))
    runner = CliRunner(env={"MEMLANE_URL": gateway, "MEMLANE_API_KEY": admin_key, "COLUMNS": "100"})
    done = runner.invoke(app, ["top", "--once", "--interval", "0.5"])
    assert done.exit_code == 0, done.output
    assert re.search(r"remember +1 +0 +0", done.output)
    assert re.search(r"gateway +1 ", done.output)
    found = json.loads(runner.invoke(app, ["top", "--json", "--interval", "0.5"]).output)
    assert [(job["kind"], job["open"]) for job in found["status"]["jobs"]] == [("remember", 1)]
    assert 0.4 < found["over_s"] < 20
    assert "error" not in found
    assert found["health"]["band"]


@pytest.mark.parametrize("width", [40, 79, 160])
def test_a_frame_fits_any_width(width: int, lane: Lane, admin: Admin) -> None:
    measures = Measures("ingest")
    measures.claim("remember", 5, 0.1, {"stored": 5, "searchable": 4, "failed": 1})
    measures.operation("drain.remember", 0.1)
    told(lane, measures)
    before = admin.live()
    shown = frame("http://127.0.0.1:8777", before, Look(admin.status(), before, HealthSummary(40, Band.FAILING)))
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(screen(shown))
    lines = console.export_text().splitlines()
    console.file.close()
    assert max(map(len, lines)) <= width
    assert any(line.startswith("processes") for line in lines) or width > 79


def test_what_is_wrong_is_said_on_top() -> None:
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(screen(Frame("http://h", error="nothing listens there")))
    assert "NO ANSWER: nothing listens there" in console.export_text()
    console.file.close()


@pytest.mark.parametrize("key", ["wrong", ""])
def test_a_wrong_key_is_one_clear_line(key: str, gateway: str) -> None:
    done = subprocess.run(
        [*MEMLANE, "top", "--once", "--url", gateway, "--api-key", key], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1


@dataclass
class Terminal:
    """A program on a terminal of its own."""

    process: "subprocess.Popen[bytes]"
    controller: int
    seen: str = ""

    def until(self, holds: Callable[[str], bool], timeout_s: float = 60.0) -> str:
        """Read until something is shown; all that was shown since the last time."""
        deadline = monotonic() + timeout_s
        while not holds(self.seen):
            assert monotonic() < deadline, self.seen[-3000:]
            ready, _, _ = select.select([self.controller], [], [], 0.1)
            try:
                self.seen += os.read(self.controller, 65536).decode(errors="replace") if ready else ""
            except OSError:  # the program has closed it
                assert holds(self.seen), self.seen[-3000:]
        seen, self.seen = self.seen, ""
        return seen

    def shows(self, text: str) -> str:
        """Read until a text is shown."""
        return self.until(lambda seen: text in seen)

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.controller, keys)


@contextmanager
def terminal(*command: str, columns: int = 80, **env: str) -> Iterator[Terminal]:
    controller, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    before = termios.tcgetattr(end)
    whole = {**{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}, "TERM": "xterm", **env}
    setsid = shutil.which("setsid")  # its terminal is to be this one, so that Ctrl-C comes to it
    assert setsid is not None
    process = subprocess.Popen([setsid, "--ctty", *MEMLANE, *command], stdin=end, stdout=end, stderr=end, env=whole)
    try:
        yield Terminal(process, controller)
        assert termios.tcgetattr(end) == before, "the terminal is left as it was found"
    finally:
        process.kill()
        process.wait()
        os.close(end)
        os.close(controller)


ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


@pytest.mark.parametrize("end", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_it_is_renewed_in_a_terminal_and_ends_well(end: bytes, lane: Lane, gateway: str, admin_key: str) -> None:
    with terminal("top", "--interval", "0.5", MEMLANE_URL=gateway, MEMLANE_API_KEY=admin_key) as there:
        seen = there.shows("shards")
        assert "no open jobs" in seen
        assert ENTER_SCREEN in seen
        accepted(lane, item("tea"))
        there.until(lambda seen: re.search(r"remember +1 +0 +0", seen) is not None)
        assert "\x1b[2J" not in there.seen.replace(ENTER_SCREEN, "")  # nothing is wiped before it is drawn anew
        there.press(end)
        there.shows(LEAVE_SCREEN)
        assert there.process.wait(30) == 0


def test_a_gateway_that_goes_away_is_waited_for(gateway: str, admin_key: str) -> None:
    link, url = Proxy.before(gateway)
    with link, terminal("top", "--interval", "0.5", MEMLANE_URL=url, MEMLANE_API_KEY=admin_key) as there:
        there.shows("shards")
        link.cut()
        assert "shards" in there.shows("NO ANSWER") + there.shows("shards")  # what was seen last stays
        link.mend()
        there.until(lambda seen: any("shards" in one and "NO ANSWER" not in one for one in seen.split("q ends")[1:]))
        there.press(b"q")
        assert there.process.wait(30) == 0
    assert there.process.returncode == 0


def test_a_key_is_noticed_while_the_gateway_hangs(gateway: str, admin_key: str) -> None:
    link, url = Proxy.before(gateway)
    with link, terminal("top", "--interval", "0.5", MEMLANE_URL=url, MEMLANE_API_KEY=admin_key) as there:
        there.shows("shards")
        link.black_hole()
        there.press(b"q")
        begun = monotonic()
        assert there.process.wait(30) == 0
        assert monotonic() - begun < 20


def test_a_signal_to_end_ends_it(gateway: str, admin_key: str) -> None:
    with terminal("top", MEMLANE_URL=gateway, MEMLANE_API_KEY=admin_key) as there:
        there.shows("shards")
        there.process.send_signal(signal.SIGINT)
        assert there.process.wait(30) == 0
