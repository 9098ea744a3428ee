"""mem0 over pgvector: texts stored as they are, add(infer=False), with no model reading them first."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import psycopg

_THREADS = 32


@dataclass(frozen=True)
class Mem0:
    """What `Memory` offers; `Peer` in measure.py says what each is."""

    memory: Any
    rows: "psycopg.Connection[tuple[int]]"

    packages: ClassVar = ("mem0ai", "psycopg")
    notes: ClassVar = (
        "one request to the provider per memory, also for a list of messages; each insert is a transaction of its own",
        "its history is kept in SQLite, in a transaction of its own; a crash between the two leaves one without it",
        "without its extra nlp: its words are not brought to their stems",
        f"{_THREADS} connections in its pool instead of 5, so that the threads do not wait for them",
    )
    searchable = None

    @property
    def ways(self) -> "Sequence[tuple[str, int, int, Callable[[Sequence[tuple[str, str]]], None]]]":
        """One thread, and many."""
        return (
            ("add(infer=False), one thread", 1, 1, partial(self._add, threads=1)),
            (f"add(infer=False), {_THREADS} threads", _THREADS, 1, partial(self._add, threads=_THREADS)),
        )

    def store(self, agent: str, text: str) -> str:
        """Add one text."""
        return str(self.memory.add(text, user_id=agent, infer=False)["results"][0]["id"])

    def store_many(self, agent: str, texts: Sequence[str]) -> None:
        """Add a list of messages: the one call that takes many."""
        self.memory.add([{"role": "user", "content": text} for text in texts], user_id=agent, infer=False)

    def get(self, _agent: str, id_: str) -> bool:
        """Read one by its id."""
        return self.memory.get(id_) is not None

    def search(self, agent: str, question: str) -> int:
        """Find by meaning and words."""
        return len(self.memory.search(question, filters={"user_id": agent}, top_k=10)["results"])

    def scan(self, agent: str) -> int:
        """List all of an agent's; it wants to be told how many at most."""
        return len(self.memory.get_all(filters={"user_id": agent}, top_k=1_000_000)["results"])

    def fill(self, agent: str, texts: Sequence[str]) -> None:
        """Add by many threads."""
        self._add([(agent, text) for text in texts], threads=_THREADS)

    def count(self) -> int:
        """Rows, each with its vector."""
        row = self.rows.execute("SELECT count(*) FROM memories").fetchone()
        return row[0] if row else 0

    def _add(self, memories: Sequence[tuple[str, str]], threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda memory: self.store(*memory), memories))


@contextmanager
def opened(task: dict[str, Any]) -> Iterator[Mem0]:
    """A memory in a database of its own, with HNSW as it makes it."""
    provider = {"api_key": "none", "openai_base_url": task["provider"] + "/v1"}
    with TemporaryDirectory() as folder, psycopg.connect(task["postgres"], autocommit=True) as rows:
        os.environ.update(MEM0_TELEMETRY="False", MEM0_DIR=folder)
        from mem0 import Memory  # reads both when it is imported

        store = {
            "connection_string": task["postgres"],
            "collection_name": "memories",
            "embedding_model_dims": task["dims"],
            "hnsw": True,
            "minconn": _THREADS,
            "maxconn": _THREADS,
        }
        memory = Memory.from_config(
            {
                "vector_store": {"provider": "pgvector", "config": store},
                "embedder": {"provider": "openai", "config": {**provider, "embedding_dims": task["dims"]}},
                "llm": {"provider": "openai", "config": provider},  # never asked: infer=False
                "history_db_path": str(Path(folder) / "history.db"),
            }
        )
        peer = Mem0(memory, rows)
        peer.store("warm", "the first one makes the table")
        yield peer
        memory.close()
