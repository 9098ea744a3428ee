"""An empty Celery task through a broker and worker processes like ours: what Celery itself can do."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import DEVNULL
from time import perf_counter, sleep
from uuid import uuid4

import redis
from celery import Celery

from memlane.bench.bare import Bare
from memlane.bench.cpu import since
from memlane.bench.figures import Rate
from memlane.config.celery import QueueName
from memlane.config.settings import load_settings
from memlane.workers.app import make_app

_PROCESSES = 4
_QUEUE = QueueName.REMEMBER.value
_DATABASE = 3
_UNACKED = "unacked.ingest"
_LOOK_S = 0.005


def measure(here: Bare, tasks: int) -> Rate:
    """Tasks a second, from the first that is sent until none is left."""
    broker = here.redis.uri(_DATABASE)
    app = _app(broker)
    with redis.Redis.from_url(broker) as there, _workers(broker):
        _run(app, there, 20 * _PROCESSES)  # each process has taken some
        before, begun = here.cpu_s(), perf_counter()
        _run(app, there, tasks)
        return Rate(round(tasks / (perf_counter() - begun), 1), tasks, since(before, here.cpu_s()))


def _run(app: Celery, there: "redis.Redis", tasks: int) -> None:
    for _ in range(tasks):
        app.send_task("bench.nothing", args=(0,), kwargs={"wakeup": uuid4().hex}, queue=_QUEUE)
    while there.llen(_QUEUE) or there.hlen(_UNACKED):
        sleep(_LOOK_S)


def _app(broker: str) -> Celery:
    app = make_app(load_settings(nodes={"none": "postgresql://none"}, broker_url=broker))
    app.task(_nothing, name="bench.nothing", shared=False)
    return app


def _nothing(_shard: int, wakeup: str) -> None:
    """What a drain is told, and no more."""


@contextmanager
def _workers(broker: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "memlane.bench.nothing", broker], stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    _app(sys.argv[1]).worker_main(
        ["--quiet", "worker", "--concurrency", str(_PROCESSES), "--queues", _QUEUE, "--loglevel", "error"]
    )
