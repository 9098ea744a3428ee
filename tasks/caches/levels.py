"""The levels together: what was answered to an agent, and the vectors of questions, from whichever level knows them.

Every key holds the version of the agent (storage/versions.py), which is read from Postgres each time. So nothing has to
be told to anybody: what was kept under another version is out of reach, and goes in its time.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Self

import numpy as np

from memlane.config.settings import Settings
from memlane.storage.halfvec import Vector
from memlane.storage.versions import Version
from memlane.tasks.caches.local import LocalCache, Room
from memlane.tasks.caches.shared import SharedCache
from memlane.tasks.measures import Measures

_MIB = 1024 * 1024

_ENTRY_BYTES = 500
"""What an entry takes beside its value, about."""

_SIMILAR = 64
"""With how many questions of one agent, asked alike, another is compared."""


class Kind(StrEnum):
    """What is kept of an agent."""

    RECALLS = "recalls"
    LISTS = "lists"


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer.

    Attributes:
        body: as JSON.
        numbers: the numbers of the memories in it.
        at_s: when the agent was as it says, by its node's clock, in seconds since 1970.
        until_s: until when it may be given.
    """

    body: bytes
    numbers: tuple[int, ...]
    at_s: float
    until_s: float

    def dump(self) -> bytes:
        """As it is kept in Redis."""
        return json.dumps([self.numbers, self.at_s, self.until_s]).encode() + b"\n" + self.body

    @classmethod
    def load(cls, value: bytes) -> Self:
        """From what is kept in Redis."""
        head, _, body = value.partition(b"\n")
        numbers, at_s, until_s = json.loads(head)
        return cls(body, tuple(numbers), at_s, until_s)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that is asked of an agent, as it is now.

    Attributes:
        kind: of answer.
        version: the agent's.
        asked: a digest of all that the answer depends on beside it.
    """

    kind: Kind
    version: Version
    asked: bytes

    @property
    def field(self) -> bytes:
        """Under which it is kept."""
        ids = self.version.epoch.bytes + self.version.version.bytes
        return digest(self.kind.encode(), ids, self.asked)

    @property
    def key(self) -> tuple[int, int, bytes]:
        """The same in a process, which keeps what was answered to all agents together."""
        return self.version.shard, self.version.number, self.field

    def fits(self, kept: Kept) -> bool:
        """Whether the time of an answer is not over."""
        return self.version.now_s < kept.until_s


class Caches:
    """The caches of one process.

    Args:
        settings: how large they are, and which Redis is shared.
        measures: where looks are counted.
    """

    def __init__(self, settings: Settings, measures: Measures) -> None:
        sizes = settings.cache_sizes
        room = Room(sizes.entries, sizes.mb * _MIB, sizes.ttl_s, sizes.idle_s, settings.cache_policy)
        self.ttl_s = sizes.ttl_s
        self.on = sizes.entries > 0
        """Whether answers are kept."""
        self._answers: dict[Kind, LocalCache[Kept]] = {kind: LocalCache(room) for kind in Kind}
        few = Room(sizes.entries, room.size_bytes, sizes.ttl_s, sizes.idle_s, settings.cache_policy)
        self._alike: LocalCache[tuple[tuple[Vector, bytes], ...]] = LocalCache(few)
        self._similar = settings.cache_similar
        self.compares = self._similar is not None
        """Whether similar questions are given the same answer."""
        vectors_bytes = sizes.questions * (4 * settings.openai_dims + _ENTRY_BYTES)
        life_s = sizes.question_ttl_s
        self._vectors: LocalCache[Vector] = LocalCache(
            Room(sizes.questions, vectors_bytes, life_s, life_s, settings.cache_policy)
        )
        url = settings.shared_cache_url
        self.shared = SharedCache(url, sizes.ttl_s, life_s, settings.cache_compress_bytes) if url else None
        """What processes share, if anything; ask it where nobody minds to wait for a moment."""
        self._measures = measures

    def here(self, wanted: Wanted) -> Kept | None:
        """An answer that this process knows."""
        kept = self._answers[wanted.kind].get(wanted.key)
        return self._looked(wanted, "process", kept if kept and wanted.fits(kept) else None)

    def elsewhere(self, wanted: Wanted) -> Kept | None:
        """An answer that another process has kept in Redis; this one knows it from then on."""
        if self.shared is None:
            return None
        found = self.shared.answer(wanted.version.shard, wanted.version.number, wanted.field)
        kept = Kept.load(found) if found else None
        if kept is not None and wanted.fits(kept):
            self._keep_here(wanted, kept)
            return self._looked(wanted, "redis", kept)
        return self._looked(wanted, "redis", None)

    def keep(self, wanted: Wanted, kept: Kept) -> Callable[[], None] | None:
        """Keep an answer in this process; what is left to do is to keep it in Redis."""
        self._keep_here(wanted, kept)
        if (shared := self.shared) is None:
            return None
        version = wanted.version
        return lambda: shared.keep_answer(version.shard, version.number, wanted.field, kept.dump())

    def alike(self, wanted: Wanted, others: bytes, vector: Vector) -> Kept | None:
        """The answer to the most similar question that was asked alike, if it is similar enough.

        Args:
            wanted: what is asked.
            others: a digest of all but the question.
            vector: the question's.
        """
        if self._similar is None:
            return None
        found = self._alike.get(_alike(wanted, others)) or ()
        if not found:
            return None
        likeness = np.stack([one for one, _ in found]) @ vector
        best = int(likeness.argmax())
        if likeness[best] < self._similar:
            return None
        kept = self._answers[wanted.kind].get(Wanted(wanted.kind, wanted.version, found[best][1]).key)
        return self._looked(wanted, "similar", kept if kept and wanted.fits(kept) else None)

    def keep_alike(self, wanted: Wanted, others: bytes, vector: Vector) -> None:
        """Have the answer to a question be known to similar ones."""
        if self._similar is None:
            return
        key = _alike(wanted, others)
        before = self._alike.get(key) or ()
        now = (*before[1 - _SIMILAR :], (vector, wanted.asked))
        self._alike.put(key, now, len(now) * (vector.nbytes + _ENTRY_BYTES))

    def vector(self, name: bytes) -> Vector | None:
        """The vector of a question that this process knows."""
        found = self._vectors.get(name)
        self._measures.looked("vectors", "process", hit=found is not None)
        return found

    def shared_vector(self, name: bytes) -> Vector | None:
        """The vector of a question from Redis; this process knows it from then on."""
        found = self.shared.vector(name) if self.shared is not None else None
        if self.shared is not None:
            self._measures.looked("vectors", "redis", hit=found is not None)
        if found is None:
            return None
        vector = np.frombuffer(found, "<f2").astype(np.float32)
        self.keep_vector(name, vector)
        return vector

    def keep_vector(self, name: bytes, vector: Vector) -> Callable[[], None] | None:
        """Keep the vector of a question in this process; what is left to do is to keep it in Redis."""
        self._vectors.put(name, vector, vector.nbytes + _ENTRY_BYTES)
        if (shared := self.shared) is None:
            return None
        return lambda: shared.keep_vector(name, vector.astype("<f2").tobytes())

    def forgotten(self, shard: int, agents: Collection[int]) -> None:
        """Something of these agents was forgotten: it is out of reach already, and now goes from Redis too."""
        if self.shared is not None:
            self.shared.drop_answers(shard, list(agents))

    def drop_here(self) -> None:
        """Let go of all that this process knows."""
        for answers in self._answers.values():
            answers.clear()
        self._alike.clear()
        self._vectors.clear()

    def tell(self) -> None:
        """Tell how full this process's caches are."""
        for name, held in [
            *((kind.value, cache.held()) for kind, cache in self._answers.items()),
            ("vectors", self._vectors.held()),
        ]:
            self._measures.held(name, held.entries, held.size_bytes, held.evicted)

    def close(self) -> None:
        """Close connections."""
        if self.shared is not None:
            self.shared.close()

    def _keep_here(self, wanted: Wanted, kept: Kept) -> None:
        self._answers[wanted.kind].put(wanted.key, kept, len(kept.body) + 8 * len(kept.numbers) + _ENTRY_BYTES)

    def _looked(self, wanted: Wanted, level: str, kept: Kept | None) -> Kept | None:
        age_s = 0.0 if kept is None else max(0.0, wanted.version.now_s - kept.at_s)
        self._measures.looked(wanted.kind.value, level, hit=kept is not None, age_s=age_s)
        return kept


def digest(*parts: bytes) -> bytes:
    """A name for all of these together."""
    made = blake2b(digest_size=20)
    for part in parts:
        made.update(len(part).to_bytes(8, "little") + part)
    return made.digest()


def _alike(wanted: Wanted, others: bytes) -> tuple[int, int, bytes]:
    return Wanted(wanted.kind, wanted.version, digest(b"alike", others)).key
