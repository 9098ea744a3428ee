"""A queue written by hand: one Celery task per memory, one embedding request, one INSERT with HNSW in place.

This is what many teams have. It is written with care, but keeps no job, batches nothing, and commits row by row.
"""

import base64
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from time import monotonic, sleep
from typing import Any, ClassVar

import numpy as np
import psycopg
from celery import Celery
from pgvector.psycopg import register_vector

app = Celery("naive", broker=os.environ.get("NAIVE_BROKER", "redis://127.0.0.1:6379/0"), set_as_current=False)
app.conf.update(task_ignore_result=True, task_acks_late=True, broker_connection_retry_on_startup=True)

_SCHEMA = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE naive (id bigserial PRIMARY KEY, agent text, content text, embedding vector({dims}));
CREATE INDEX ON naive USING hnsw (embedding vector_cosine_ops);
CREATE INDEX ON naive (agent);
"""

_PROCESSES = 8
_PATIENCE_S = 600


@cache
def connection() -> "psycopg.Connection[tuple[int]]":
    """The connection of this process."""
    made = psycopg.connect(os.environ["NAIVE_POSTGRES"], autocommit=True)
    register_vector(made)
    return made


@app.task(name="naive.remember", shared=False)  # type: ignore[untyped-decorator]  # Celery is not typed
def remember(agent: str, content: str) -> None:
    """Embed one text and insert one row."""
    body = json.dumps({"input": [content], "model": "fake", "encoding_format": "base64"}).encode()
    url = os.environ["NAIVE_PROVIDER"] + "/v1/embeddings"
    request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310  # given by the operator
        encoded = json.load(answer)["data"][0]["embedding"]
    vector = np.frombuffer(base64.b64decode(encoded), np.float32)
    connection().execute("INSERT INTO naive (agent, content, embedding) VALUES (%s, %s, %s)", (agent, content, vector))


@dataclass(frozen=True)
class NaiveCelery:
    """What such a queue offers: one call; `Peer` in measure.py says what each is."""

    rows: "psycopg.Connection[tuple[int]]"

    packages: ClassVar = ("celery", "redis", "pgvector", "psycopg")
    notes: ClassVar = (
        "one task and one request to the provider per memory",
        "no id comes back and a task that runs twice stores twice; it has no calls to read",
    )
    store_many = get = search = scan = fill = None

    @property
    def ways(self) -> "Sequence[tuple[str, int, int, Callable[[Sequence[tuple[str, str]]], None]]]":
        """Its one way."""
        return ((f"one task per memory, {_PROCESSES} processes", _PROCESSES, 1, self._enqueue),)

    def store(self, agent: str, text: str) -> str:
        """Send a task."""
        return str(remember.delay(agent, text).id)

    def searchable(self, agent: str, text: str) -> None:
        """Look until the row is there."""
        look = "SELECT 1 FROM naive WHERE agent = %s AND content = %s"
        _wait(lambda: self.rows.execute(look, (agent, text)).fetchone() is not None, 0.001)

    def count(self) -> int:
        """Rows, each with its vector."""
        row = self.rows.execute("SELECT count(*) FROM naive").fetchone()
        return row[0] if row else 0

    def _enqueue(self, memories: Sequence[tuple[str, str]]) -> None:
        goal = self.count() + len(memories)
        for agent, text in memories:
            self.store(agent, text)
        _wait(lambda: self.count() >= goal, 0.02)


def _wait(reached: Callable[[], bool], pause_s: float) -> None:
    until = monotonic() + _PATIENCE_S
    while not reached():
        if monotonic() > until:
            raise TimeoutError("the workers did not store everything")
        sleep(pause_s)


@contextmanager
def opened(task: dict[str, Any]) -> Iterator[NaiveCelery]:
    """Workers that have begun, and a table in a database of its own."""
    os.environ.update(NAIVE_POSTGRES=task["postgres"], NAIVE_PROVIDER=task["provider"], NAIVE_BROKER=task["broker"])
    app.conf.broker_url = task["broker"]
    app.control.purge()
    with psycopg.connect(task["postgres"], autocommit=True) as rows:
        rows.execute(_SCHEMA.format(dims=task["dims"]).encode())
        worker = subprocess.Popen([sys.executable, "-I", __file__], stdout=sys.stderr)
        try:
            peer = NaiveCelery(rows)
            for number in range(4 * _PROCESSES):  # so that each process has its connections
                peer.store("warm", f"the first ones warm ({number})")
            _wait(lambda: peer.count() == 4 * _PROCESSES, 0.02)
            yield peer
        finally:
            worker.terminate()
            worker.wait(30)


if __name__ == "__main__":
    app.worker_main(["--quiet", "worker", "--concurrency", str(_PROCESSES), "--loglevel", "error"])
