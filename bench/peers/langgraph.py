"""LangGraph's PostgresStore: put, a batch of puts, and its asynchronous store, which makes batches by itself."""

import asyncio
import base64
import json
import urllib.request
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar
from uuid import uuid4

import psycopg
from langgraph.store.base import PutOp
from langgraph.store.postgres import AsyncPostgresStore, PostgresStore

_BATCH = 100
_SIDE_BY_SIDE = 32
_STORES = 4


@dataclass(frozen=True)
class LangGraph:
    """What the store offers; `Peer` in measure.py says what each is."""

    stores: Any
    rows: "psycopg.Connection[tuple[int]]"
    postgres: str
    index: Any

    packages: ClassVar = ("langgraph-checkpoint-postgres", "langgraph-checkpoint", "psycopg")
    notes: ClassVar = (
        "a put holds the store's lock while the provider is asked: threads do not help, batches and further stores do",
        "the asynchronous store makes batches of what its callers have at hand, in their process",
    )
    searchable = None

    @property
    def ways(self) -> "Sequence[tuple[str, int, int, Callable[[Sequence[tuple[str, str]]], None]]]":
        """One by one, in batches of one caller and of several, in batches of its own."""
        return (
            ("put, one by one", 1, 1, self._one_by_one),
            (f"batch of {_BATCH} puts", 1, _BATCH, partial(self._in_batches, stores=1)),
            (f"batch of {_BATCH} puts, {_STORES} stores", _STORES, _BATCH, partial(self._in_batches, stores=_STORES)),
            (f"aput, {_SIDE_BY_SIDE} side by side", _SIDE_BY_SIDE, 1, self._side_by_side),
        )

    def store(self, agent: str, text: str) -> str:
        """Put one."""
        key = str(uuid4())
        self.stores.put((agent,), key, {"text": text})
        return key

    def store_many(self, agent: str, texts: Sequence[str]) -> None:
        """Put many in one call."""
        self.stores.batch([PutOp((agent,), str(uuid4()), {"text": text}) for text in texts])

    def get(self, agent: str, id_: str) -> bool:
        """Read one by its key."""
        return self.stores.get((agent,), id_) is not None

    def search(self, agent: str, question: str) -> int:
        """Find by meaning."""
        return len(self.stores.search((agent,), query=question, limit=10))

    def scan(self, agent: str) -> int:
        """List all in a namespace; it wants to be told how many at most."""
        return len(self.stores.search((agent,), limit=1_000_000))

    def fill(self, agent: str, texts: Sequence[str]) -> None:
        """Put in batches."""
        for start in range(0, len(texts), _BATCH):
            self.store_many(agent, texts[start : start + _BATCH])

    def count(self) -> int:
        """Vectors, each of a row."""
        row = self.rows.execute("SELECT count(*) FROM store_vectors").fetchone()
        return row[0] if row else 0

    def _one_by_one(self, memories: Sequence[tuple[str, str]]) -> None:
        for agent, text in memories:
            self.store(agent, text)

    def _in_batches(self, memories: Sequence[tuple[str, str]], stores: int) -> None:
        puts = [PutOp((agent,), str(uuid4()), {"text": text}) for agent, text in memories]
        batches = iter([puts[start : start + _BATCH] for start in range(0, len(puts), _BATCH)])

        def caller(_number: int) -> None:
            with PostgresStore.from_conn_string(self.postgres, index=self.index) as store:
                for batch in batches:
                    store.batch(batch)

        with ThreadPoolExecutor(stores) as pool:
            list(pool.map(caller, range(stores)))

    def _side_by_side(self, memories: Sequence[tuple[str, str]]) -> None:
        async def run() -> None:
            waiting = iter(memories)
            async with AsyncPostgresStore.from_conn_string(self.postgres, index=self.index) as store:

                async def caller() -> None:
                    for agent, text in waiting:
                        await store.aput((agent,), str(uuid4()), {"text": text})

                await asyncio.gather(*(caller() for _ in range(_SIDE_BY_SIDE)))

        asyncio.run(run())


@contextmanager
def opened(task: dict[str, Any]) -> Iterator[LangGraph]:
    """A store in a database of its own, with HNSW as it makes it."""

    def embed(texts: Sequence[str]) -> list[list[float]]:
        body = json.dumps({"input": list(texts), "model": "fake", "encoding_format": "base64"}).encode()
        url = task["provider"] + "/v1/embeddings"
        request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310  # ours
            data = json.load(answer)["data"]
        return [array("f", base64.b64decode(each["embedding"])).tolist() for each in data]

    index = {"dims": task["dims"], "embed": embed, "fields": ["text"]}
    pool = {"min_size": 4, "max_size": 16}
    with (
        psycopg.connect(task["postgres"], autocommit=True) as rows,
        PostgresStore.from_conn_string(task["postgres"], pool_config=pool, index=index) as stores,
    ):
        stores.setup()
        peer = LangGraph(stores, rows, task["postgres"], index)
        peer.store("warm", "the first one warms")
        yield peer
