"""Recall by the size of an agent: over HTTP, cold and warm, and its vector part alone with what that misses.

A gateway stands alone with Postgres, Redis and the provider: no worker and no beat is at work beside it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import httpx

from memlane.bench.bare import Bare, lane_of
from memlane.bench.figures import Amount, Percentiles, percentiles
from memlane.bench.nearness import Nearness, nearness
from memlane.bench.output import Progress
from memlane.bench.statements import BATCH, Statements
from memlane.bench.structured import around_sentences, of_questions
from memlane.bench.texts import fresh_texts, queries
from memlane.config.settings import Settings
from memlane.contract import MemoryItem
from memlane.storage import embedding_cache, tenants
from memlane.storage.embedding_cache import Cached, Text
from memlane.storage.halfvec import Matrix
from memlane.storage.wording import cache_key, question_hash
from memlane.tasks import optimize
from memlane.tasks.lane import Lane

_TENANT = "bench"
_CLAIM = 1024
_THREAD = 50
"""Memories in a conversation."""
_WARMING = 10
"""Questions that are asked first, and count nowhere: connections are made, and plans."""


@dataclass(frozen=True, slots=True)
class SizeFigures:
    """Of an agent of one size, from the question to the answer, in milliseconds over HTTP.

    Attributes:
        memories: how many the agent has.
        promoted: whether it has an index of its own.
        cold: nobody knows the question's vector: the provider is asked.
        warm: the vector is known, the answer is not.
        again: the same question was asked a moment ago.
        vector: the search by meaning alone, in the process that asks Postgres, and what it misses.
    """

    memories: int
    promoted: bool
    cold: Percentiles
    warm: Percentiles
    again: Percentiles
    vector: Nearness


def measure(here: Bare, amount: Amount, progress: Progress) -> list[SizeFigures]:
    """Fill an agent of each size, promote those that outgrew exact search, and ask."""
    with here.cluster("sizes", shard_count=2) as settings, lane_of(settings) as lane:
        lane.cluster.begin()
        tenants.create_tenant(lane.cluster.control, _TENANT)
        key = tenants.create_key(lane.cluster.control, _TENANT)
        with _asking(here, settings, key) as http:
            return [_measured(http, lane, size, amount.asked, progress) for size in amount.agent_sizes]


def _measured(http: httpx.Client, lane: Lane, size: int, asked: int, progress: Progress) -> SizeFigures:
    agent, vectors = f"agent-{size}", around_sentences(size, seed=size)
    shard = lane.cluster.shard(lane.cluster.shard_of(_TENANT, agent))
    begun = perf_counter()
    Statements(lane, _TENANT, shard, _CLAIM).store(_batches(agent, size), vectors)
    promoted = optimize.optimize_shard(lane, shard, None) > 0
    progress(f"an agent has {size:,} memories after {perf_counter() - begun:.0f} s")
    questions = of_questions(asked + _WARMING)
    unknown, known = (list(islice(queries(seed * size), asked + _WARMING)) for seed in (3, 5))
    _keep(lane, known, questions)
    cold, warm = (_times(http, agent, texts)[_WARMING:] for texts in (unknown, known))
    again = _times(http, agent, known)[_WARMING:]
    near = nearness(lane, shard, _TENANT, agent, vectors, questions[:asked])
    found = SizeFigures(size, promoted, percentiles(cold), percentiles(warm), percentiles(again), near)
    progress(f"recall: cold {found.cold.p50} ms, warm {found.warm.p50}, asked again {found.again.p50}")
    return found


def _batches(agent: str, size: int) -> Iterator[list[MemoryItem]]:
    texts = fresh_texts(size)
    for start in range(0, size, BATCH):
        numbers = range(start, min(start + BATCH, size))
        yield [MemoryItem(agent=agent, content=next(texts), thread=f"t{n // _THREAD}") for n in numbers]


def _keep(lane: Lane, texts: Sequence[str], vectors: Matrix) -> None:
    """Have the cache know the vectors of questions, as if somebody had asked them long ago."""
    names = [Text(_TENANT, cache_key(question_hash(text))) for text in texts]
    made = {name: Cached(vector) for name, vector in zip(names, vectors, strict=True)}
    embedding_cache.keep(lane.cluster, lane.model.name, made)


def _times(http: httpx.Client, agent: str, questions: Sequence[str]) -> list[float]:
    """Milliseconds of each question; one without ten hits is no figure."""
    found = []
    for question in questions:
        begun = perf_counter()
        answer = http.post("/v1/recall", json={"agent": agent, "query": question, "limit": 10})
        found.append((perf_counter() - begun) * 1000)
        if len(answer.raise_for_status().json()["hits"]) < 10:
            raise LookupError("a recall found less than ten")
    return found


@contextmanager
def _asking(here: Bare, settings: Settings, key: str) -> Iterator[httpx.Client]:
    with (
        here.gateway(settings) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http,
    ):
        yield http
