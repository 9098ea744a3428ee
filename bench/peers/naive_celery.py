"""A queue written by hand: one Celery task per memory, one embedding request, one INSERT with HNSW in place.

    python -m memlane.bench.peers.naive_celery --postgres URI --provider URL --broker URL --memories N --processes N

It prints one JSON document. This is what many teams have; it is written with care, but keeps no job,
batches nothing, and commits row by row.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import urllib.request
from functools import cache
from time import monotonic, sleep

import numpy as np
import psycopg
from celery import Celery
from pgvector.psycopg import register_vector

app = Celery("naive", broker=os.environ.get("NAIVE_BROKER", "redis://127.0.0.1:6379/0"), set_as_current=False)
app.conf.update(task_ignore_result=True, task_acks_late=True, broker_connection_retry_on_startup=True)

_SCHEMA = """
DROP TABLE IF EXISTS naive;
CREATE TABLE naive (id bigserial PRIMARY KEY, agent text, content text, embedding vector(384));
CREATE INDEX ON naive USING hnsw (embedding vector_cosine_ops);
CREATE INDEX ON naive (agent);
"""

_PATIENCE_S = 600


@cache
def connection() -> "psycopg.Connection[tuple[int, ...]]":
    """The connection of this process."""
    made = psycopg.connect(os.environ["NAIVE_POSTGRES"], autocommit=True)
    register_vector(made)
    return made


@app.task(name="naive.remember", shared=False)  # type: ignore[untyped-decorator]  # Celery is not typed
def remember(agent: str, content: str) -> None:
    """Embed one text and insert one row."""
    body = json.dumps({"input": [content], "model": "fake", "encoding_format": "base64"}).encode()
    url = os.environ["NAIVE_PROVIDER"] + "/embeddings"
    request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310  # given by the operator
        encoded = json.load(answer)["data"][0]["embedding"]
    vector = np.frombuffer(base64.b64decode(encoded), np.float32)
    connection().execute("INSERT INTO naive (agent, content, embedding) VALUES (%s, %s, %s)", (agent, content, vector))


def measure(memories: int, processes: int) -> float:
    """Memories per second, stored and searchable, after the workers have started."""
    with psycopg.connect(os.environ["NAIVE_POSTGRES"], autocommit=True) as setup:
        setup.execute("CREATE EXTENSION IF NOT EXISTS vector")
        setup.execute(_SCHEMA)
    for number in range(memories):
        remember.delay(f"agent-{number % 100}", f"user {number % 100} said that item number {number} matters to them")
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "memlane.bench.peers.naive_celery", "--quiet", "worker"),
            *("--concurrency", str(processes), "--loglevel", "error"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (first := _count()):
            sleep(0.02)
        begun = monotonic()
        while _count() < memories and monotonic() - begun < _PATIENCE_S:
            sleep(0.05)
        return (_count() - first) / (monotonic() - begun)
    finally:
        worker.terminate()
        worker.wait(30)


def _count() -> int:
    row = connection().execute("SELECT count(*) FROM naive").fetchone()
    return row[0] if row else 0


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("postgres", "provider", "broker"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--memories", type=int, default=1500)
    parser.add_argument("--processes", type=int, default=8)
    given = parser.parse_args()
    os.environ.update(NAIVE_POSTGRES=given.postgres, NAIVE_PROVIDER=given.provider, NAIVE_BROKER=given.broker)
    app.conf.broker_url = given.broker
    rate = measure(given.memories, given.processes)
    print(json.dumps({"peer": "naive celery", "processes": given.processes, "searchable_per_s": round(rate, 1)}))  # noqa: T201


if __name__ == "__main__":
    main()
