"""A node whose disk is full: it refuses, loses nothing and suspects nobody; with space again it goes on."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from memlane import Client
from memlane.config.settings import Settings
from memlane.contract import Event
from memlane.embedded.user import give, server_user
from memlane.errors import Unavailable
from memlane.tasks.lane import Lane
from memlane.workers import drains
from tests.contract.conftest import serving
from tests.faults.linked import agent_on
from tests.support import accepted, count_rows, drain_all, eventually, item, ledger_of, process_of, sql

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

SIZE = "24m"
_CHUNK = bytes(64 * 1024)


class SmallDisk:
    """A file system that can be filled to the last byte."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self.tablespace = mount / "tablespace"
        self._filler = mount / "filler"

    def fill(self) -> None:
        """Leave no space."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (len(_CHUNK), 4096, 512):
                try:
                    while file.write(_CHUNK[:size]):
                        pass
                except OSError:
                    continue

    def make_space(self) -> None:
        """Take the filler away."""
        self._filler.unlink()


@pytest.fixture
def disk(server_folder: Path) -> Iterator[SmallDisk]:
    """A small disk of a test's own."""
    mount = server_folder / "small"
    mount.mkdir()
    if not _run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "tmpfs", str(mount)):
        mount.rmdir()
        pytest.skip("a file system can be mounted by root alone, and not in every container")
    made = SmallDisk(mount)
    made.tablespace.mkdir()
    give(made.tablespace, server_user())
    yield made
    assert _run("umount", "--lazy", str(mount))


def _run(program: str, *arguments: str) -> bool:
    """Whether a program that is there and for us went well."""
    found = shutil.which(program)
    if found is None or os.geteuid() != 0:
        return False
    return subprocess.run([found, *arguments], check=False, capture_output=True).returncode == 0


@pytest.fixture
def small(settings: Settings, disk: SmallDisk) -> Iterator[Settings]:
    """The tables of the second node's shards are on the small disk."""
    with sql(settings, "node-2") as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{disk.tablespace}'".encode())
        for what in ("TABLE", "INDEX"):
            connection.execute(f"ALTER {what} ALL IN TABLESPACE pg_default SET TABLESPACE small".encode())
    yield settings
    with sql(settings, "node-2") as connection:
        for what in ("TABLE", "INDEX"):
            connection.execute(f"ALTER {what} ALL IN TABLESPACE small SET TABLESPACE pg_default".encode())
        connection.execute(b"DROP TABLESPACE small")


def test_a_disk_that_is_full(small: Settings, disk: SmallDisk, lane: Lane, tenant_key: str) -> None:
    there, full = agent_on(lane.cluster, "node-1"), agent_on(lane.cluster, "node-2")
    with serving(small) as url, Client(url, tenant_key, retries=0) as client:
        for agent in (there, full):
            client.remember_many([{"agent": agent, "content": f"before {n} {'tea ' * 50}"} for n in range(40)])
        disk.fill()
        receipts = _fill_with_memories(url, tenant_key, full)
        for _ in range(5):
            client.remember(there, "meanwhile")
        held = count_rows(small, lane.cluster, "jobs")
        for number in range(lane.cluster.shard_count):
            drains.drain(process_of(lane), "drain.remember", number)
        assert count_rows(small, lane.cluster, "memories") >= 45  # of the node that has space
        assert count_rows(small, lane.cluster, "memories") < held  # the other could not write them all
        assert count_rows(small, lane.cluster, "jobs", "deaths > 0 OR parked_at IS NOT NULL") == 0
        disk.make_space()
        eventually(lambda: _takes_in(client, full))
    eventually(lambda: _drained(lane), 60)
    accepted(lane, item("afterwards", agent=full))
    drain_all(lane)
    stored = 2 * 40 + 5 + receipts + 2
    assert count_rows(small, lane.cluster, "memories") == count_rows(small, lane.cluster, "ids") == stored
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.parked == 0
    assert balance.events[Event.STORED] == stored


def _fill_with_memories(url: str, key: str, agent: str) -> int:
    """Use the last of what the tables have left, until accepts are refused; how many were taken in."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as http:
        for place in range(2000):
            answer = http.post("/v1/memories", json={"agent": agent, "content": f"{place} {'x' * 3000}"})
            if answer.status_code != 202:
                assert answer.status_code == 503, answer.text
                assert answer.json()["code"] == "unavailable"
                assert int(answer.headers["retry-after"]) >= 1
                return place
    raise AssertionError("the disk was never full")


def _takes_in(client: Client, agent: str) -> bool:
    try:
        client.remember(agent, "there is space", key="space")
    except Unavailable:
        return False
    return True


def _drained(lane: Lane) -> bool:
    drain_all(lane)
    return count_rows(lane.settings, lane.cluster, "jobs") == 0
