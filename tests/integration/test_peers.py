"""The peers of the benchmarks: their locks pin, their environments are used again, one that breaks is a line."""

import json
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

import memlane.bench.peers
from memlane.bench.comparison import Comparison
from memlane.bench.environments import NotMade, environment
from memlane.bench.figures import Circumstances, Percentiles
from memlane.bench.peer import PEERS
from memlane.bench.provider import FakeProvider
from memlane.bench.report import report
from memlane.bench.systems import SHORT, TARGETS_MS, Measured, Row, System, Way, system
from memlane.contract import wire
from tests.integration.test_embedders import serving

FILES = Path(memlane.bench.peers.__file__).parent

IN_A_LIST = """
from contextlib import contextmanager


class Listed:
    packages = ()
    notes = ("keeps nothing",)
    searchable = store_many = search = None

    def __init__(self):
        self.kept = {}
        self.ways = (("append, one by one", 1, 1, self.append), ("append, lossy", 4, 1, self.lose))

    def store(self, agent, text):
        self.kept.setdefault(agent, []).append(text)
        return text

    def append(self, memories):
        for agent, text in memories:
            self.store(agent, text)

    def lose(self, memories):
        self.append(memories[1:])

    def get(self, agent, id_):
        return id_ in self.kept[agent]

    def scan(self, agent):
        return len(self.kept[agent]) - LOSES

    def fill(self, agent, texts):
        self.kept[agent] += texts

    def count(self):
        return sum(map(len, self.kept.values()))


@contextmanager
def opened(task):
    yield Listed()
"""


def measured(peer: Path) -> tuple[int, list[str]]:
    """The code and the lines of a process that measures a peer."""
    provider = FakeProvider(0, 8)
    with serving(provider.app()) as url:
        task = {"provider": url.removesuffix("/v1"), "kinds": {}, **asdict(SHORT)}
        command = [sys.executable, "-I", str(FILES / "measure.py"), str(peer)]
        done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "listed.py"
    path.write_text(IN_A_LIST.replace("LOSES", "0"))
    return path


def test_each_peer_has_a_file_and_a_lock() -> None:
    assert {path.stem for path in FILES.glob("*.in")} == set(PEERS)
    assert {path.stem for path in FILES.glob("*.lock")} == set(PEERS)
    assert {path.stem for path in FILES.glob("*.py")} - {"__init__", "measure"} == set(PEERS)


@pytest.mark.parametrize("peer", PEERS)
def test_a_lock_has_versions_and_hashes_and_no_address(peer: str) -> None:
    text = (FILES / f"{peer}.lock").read_text()
    assert "://" not in text
    assert "--index" not in text
    pinned = [part for part in text.replace("\\\n", " ").splitlines() if part.strip()]
    assert pinned
    assert [line for line in pinned if "==" not in line or "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("peer", [*PEERS, "measure"])
def test_what_a_peers_python_runs_needs_nothing_of_ours(peer: str) -> None:
    lines = (FILES / f"{peer}.py").read_text().splitlines()
    assert [line for line in lines if line.strip().startswith(("import memlane", "from memlane"))] == []


def test_what_a_peer_prints_is_the_common_form(listed: Path) -> None:
    code, lines = measured(listed)
    assert code == 0
    found = system("listed", wire.load(Measured, lines[-1]))
    assert [(way.name, way.memories, way.stored) for way in found.ways] == [
        ("append, one by one", SHORT.one_by_one, SHORT.one_by_one),
        ("append, lossy", SHORT.memories, SHORT.memories - 1),
    ]
    assert set(found.latency) == {Row.STORE_ONE, Row.STORE_ONE_SEARCHABLE, Row.GET, Row.SCAN}
    assert list(found.notes) == ["keeps nothing"]
    assert [line.split(":")[0] for line in lines[:-1]][:2] == ["append, one by one", "append, lossy"]


def test_a_call_that_finds_too_little_is_no_figure(listed: Path) -> None:
    listed.write_text(IN_A_LIST.replace("LOSES", "1"))
    code, lines = measured(listed)
    assert code == 1
    assert json.loads(lines[-1]) == {"failed": "LookupError: a call found 299, not 300"}


def test_a_peer_that_does_not_open_says_so_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no such thing\\nas a second line')\n")
    code, lines = measured(broken)
    assert code == 1
    assert lines == ['{"failed": "RuntimeError: no such thing"}']


def test_an_environment_is_used_again_until_its_lock_changes(tmp_path: Path) -> None:
    lock, home = tmp_path / "empty.lock", tmp_path / "environments"
    lock.write_text("# nothing\n")
    python = environment(lock, home)
    assert subprocess.run([python, "-I", "-c", ""], check=True).returncode == 0
    mark = python.parent / "mark"
    mark.touch()
    assert environment(lock, home) == python
    assert mark.exists()
    lock.write_text("# nothing, said anew\n")
    environment(lock, home)
    assert not mark.exists()


def test_a_lock_that_cannot_be_installed_is_one_line(tmp_path: Path) -> None:
    lock = tmp_path / "wrong.lock"
    lock.write_text("memlane-nobody==1.0\n")  # no hash
    with pytest.raises(NotMade, match=r"^uv pip ended with code \d+: .*hash") as raised:
        environment(lock, tmp_path / "environments")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "environments" / "wrong" / "made-of").exists()


def test_the_report_says_which_targets_are_met_and_which_peer_failed() -> None:
    at = Percentiles(4, 6, 11, 12)
    way = Way("remember_many, 4 callers", 4, 100, 1000, 1000, 2500.0, 10, 1000)
    ours = System("memlane", {"memlane": "1"}, (), (way,), {Row.STORE_ONE: at, Row.GET: at, Row.SCAN: at})
    slower = Way("put, one by one", 1, 1, 300, 299, 25.0, 300, 300)
    peers = [
        System("langgraph", {}, (), (slower,), {Row.GET: at}),
        system("mem0", Measured(failed="ImportError: no")),
    ]
    here = Circumstances("1", datetime(2026, 1, 2, tzinfo=UTC), "2 cores", 2, 4.0, "Linux", "3.11", "m", {})
    found = Comparison([ours, *peers], (), TARGETS_MS, SHORT, here, {}, {"latency_ms": 50.0, "dims": 8})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report(found).splitlines() if "|" in line]
    by_first = {row[0]: row for row in rows}
    assert by_first["call"] == ["call", "target", "memlane", "within", "LangGraph", "mem0"]
    assert by_first["store one, until the call returns"][1:] == ["10", "4.0 / 6.0 / 11.0", "up to p95", "-", "failed"]
    assert by_first["get by id"][3:] == ["up to p50", "4.0 / 6.0 / 11.0", "failed"]
    assert by_first["scan of 300"][3] == "up to p99"
    assert by_first["search in 300, beside it"][2:4] == ["-", "-"]
    assert by_first["LangGraph"][4] == "300, 1 lost"
    assert by_first["mem0"][1] == "failed: ImportError: no"
    assert "the best of memlane is 100.0 times the best of LangGraph" in report(found)
    assert found.failed
