"""The line-up of a node's servers, who confirms what is written, and what each server is told of the others."""

from pathlib import Path

import pytest

from memlane.embedded import lineup
from memlane.embedded.folder import Folder, Replication, Shape
from memlane.embedded.group import Group, group, names_of
from memlane.embedded.guard import wanted
from memlane.embedded.lineup import Lineup
from memlane.errors import Misconfigured


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "data")
    made.prepare()
    return made


def make(folder: Folder, standbys: int) -> Group:
    shape = Shape(1, 8, 2, "hash", standbys)
    return group(folder, shape, folder.secrets(), "node-1", range(1, standbys + 2), lineup.read(folder))


def test_a_promotion_and_the_way_back() -> None:
    first = Lineup("a")
    second = first.promoting("b")
    assert second == Lineup("b", ("a",))
    assert second.promoting("b") == second
    assert second.promoting("c") == Lineup("c", ("a", "b"))
    assert second.with_back("a") == Lineup("b")
    assert Lineup("a", ("a",)).settled() == first  # it was to be stopped, and nobody had taken its place
    assert second.settled() == second


def test_a_line_up_is_kept(folder: Folder) -> None:
    assert lineup.read(folder) == {}
    assert lineup.changed_at(folder) == 0
    lineup.keep(folder, "node-1", Lineup("node-1b", ("node-1",)))
    lineup.keep(folder, "node-2", Lineup("node-2"))
    assert lineup.read(folder) == {"node-1": Lineup("node-1b", ("node-1",)), "node-2": Lineup("node-2")}
    assert lineup.changed_at(folder) > 0


def test_servers_know_the_others(folder: Folder) -> None:
    assert names_of("node-1", 2) == ["node-1", "node-1b", "node-1c"]
    found = make(folder, 2)
    assert found.confirmed_by == 'ANY 1 ("node-1", "node-1b", "node-1c")'
    assert "port=1,3" in found.server("node-1b").settings["primary_conninfo"]
    assert "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3" in found.uri()
    assert folder.secrets().postgres_standby not in repr(found)
    alone = make(folder, 0)
    assert alone.confirmed_by == ""
    assert alone.primary.settings == {}


def test_a_server_that_is_out_does_not_follow(folder: Folder) -> None:
    lineup.keep(folder, "node-1", Lineup("node-1c", ("node-1",)))
    found = make(folder, 2)
    assert found.primary.name == "node-1c"
    assert [server.name for server in found.standbys] == ["node-1b"]
    with pytest.raises(Misconfigured, match="the primary of node-1 is node-1c"):
        make(folder, 1)


def test_only_availability_goes_on_alone(folder: Folder) -> None:
    found = make(folder, 1)
    assert wanted(Replication.DURABILITY, found, 0) == found.confirmed_by
    assert wanted(Replication.AVAILABILITY, found, 0) == ""
    assert wanted(Replication.AVAILABILITY, found, 1) == found.confirmed_by
