"""A broker that loses everything it was given: the work is in Postgres, and the sweep finds it within seconds."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
import redis

from memlane.config.settings import Settings
from memlane.contract import Event
from memlane.tasks.lane import Lane
from tests.local import LocalProcess, WorkerProcess
from tests.processes import GatedProvider, RabbitMQ
from tests.support import accepted, count_rows, eventually, item, ledger_of

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

AT_ONCE = 20


@pytest.fixture
def workers(start_worker: Callable[..., WorkerProcess], start_beat: Callable[[], LocalProcess]) -> list[LocalProcess]:
    """Those who do the work, and two beats: everything is sent twice."""
    return [
        start_worker("ingest", "memory,remember,embed"),
        start_worker("sweep", "sweep", 1),
        start_beat(),
        start_beat(),
    ]


class Work:
    """Jobs that are held at the provider's gate while something happens to the broker."""

    def __init__(self, settings: Settings, door: Lane, provider: GatedProvider) -> None:
        self._settings, self._door, self._provider = settings, door, provider
        self._sent = 0

    def begin(self) -> None:
        """Some jobs are held, and some more are open."""
        self._provider.gate.clear()
        self._provider.reached.clear()
        self._accept()
        assert self._provider.reached.wait(60)

    def goes_on(self, within_s: float) -> None:
        """More jobs come; all are done in time."""
        begun = monotonic()
        self._accept()
        self._provider.gate.set()
        eventually(self._done, 60)
        assert monotonic() - begun < within_s

    def _accept(self) -> None:
        accepted(self._door, *(item(f"{self._sent} {n}", agent=f"agent-{n % 9}") for n in range(AT_ONCE)))
        self._sent += AT_ONCE

    def _done(self) -> bool:
        settings, cluster = self._settings, self._door.cluster
        return (
            count_rows(settings, cluster, self._door.table) == self._sent
            and count_rows(settings, cluster, "jobs") == count_rows(settings, cluster, "leases") == 0
        )

    def check(self) -> None:
        """Each memory is there once, and nothing was counted that was not."""
        assert count_rows(self._settings, self._door.cluster, "memories") == self._sent
        balance = ledger_of(self._door.cluster, "acme")
        assert balance.balanced
        assert balance.parked == 0
        assert balance.events[Event.STORED] == balance.events[Event.EMBEDDED] == self._sent


@pytest.fixture
def work(cluster_settings: Settings, door: Lane, provider: tuple[GatedProvider, str]) -> Work:
    """Work to be done."""
    return Work(cluster_settings, door, provider[0])


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_redis_loses_everything(
    broker: LocalProcess, workers: list[LocalProcess], work: Work, process_folder: Path
) -> None:
    work.begin()
    with redis.Redis.from_url(str(broker.celeryconfig["url"])) as client:
        client.flushall()
    work.goes_on(within_s=20)
    work.begin()
    broker.kill()
    for path in (process_folder / "redis").glob("appendonly*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()  # a folder since Redis 7
    broker.start()
    work.goes_on(within_s=30)
    work.check()
    assert {process.status for process in workers} == {"running"}


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_rabbitmq_loses_connections_and_messages_and_its_life(
    broker_url: str, rabbitmq: RabbitMQ, workers: list[LocalProcess], work: Work
) -> None:
    vhost = broker_url.rpartition("/")[2]
    work.begin()
    assert rabbitmq.control("close_all_connections", "--vhost", vhost, "on purpose")
    work.goes_on(within_s=30)
    work.begin()
    for queue in ("remember", "embed", "sweep"):
        assert rabbitmq.control("purge_queue", "--vhost", vhost, queue)
    work.goes_on(within_s=30)
    work.begin()
    os.killpg(rabbitmq.process.pid, signal.SIGKILL)
    rabbitmq.process.wait()
    rabbitmq.process.start()
    work.goes_on(within_s=60)
    work.check()
    assert {process.status for process in workers} == {"running"}
