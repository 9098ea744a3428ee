"""The sum of rounds says what was found, and for which fault a recovery counts."""

import json
from pathlib import Path

from tests.faults.count import Counted
from tests.faults.round import Round
from tests.faults.tally import Tally, line

GOOD = Round(1, ["node killed", "poison"], 100, Counted(memories=90), 12.34)
BAD = Round(2, ["redis wiped"], 50, Counted(memories=50, lost=["one"], still_open=2), 90.0)


def test_one_finding_is_enough() -> None:
    assert Tally("redis", [GOOD], Counted()).good
    assert not Tally("redis", [GOOD, BAD], Counted()).good
    assert not Tally("redis", [GOOD], Counted(resurrected=["later"])).good


def test_the_figures(tmp_path: Path) -> None:
    tally = Tally("redis", [GOOD, BAD], Counted())
    report = tally.report()
    assert "| redis | 2 | 3 | 150 | 1 | 0 | 0 | 0 | 0 | 2 | 0 |" in report
    assert "| node killed | 1 | never the last |" in report
    assert "| poison | 1 | 12.3 |" in report
    tally.write(tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["lost"], found["each"][1]["counted"]["lost"]) == (1, ["one"])


def test_a_round_in_a_line() -> None:
    assert "seed 2: 50 memories, lost 1, doubled 0" in line(BAD)
    assert "left 2, quiet after 90.0 s: redis wiped" in line(BAD)
