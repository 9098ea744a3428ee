"""The provider: the embedder, and the patience that it asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from time import monotonic

import structlog

from memlane.errors import ProviderRefused
from memlane.storage.halfvec import Vector
from memlane.tasks.embedders import Embedder

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Embedded:
    """What came of a batch of texts: vectors by place, and why the others have none."""

    vectors: Mapping[int, Vector]
    refusal: ProviderRefused | None


class Provider:
    """Asks the embedder once per batch; after a refusal it asks nothing until the time that was named."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._refusal: tuple[float, ProviderRefused] | None = None
        self._lock = Lock()

    def warm(self) -> None:
        """Nothing to do: a provider that exists has its model loaded."""

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed what can be embedded; never raises for what the provider does."""
        if not texts:
            return Embedded({}, None)
        if refusal := self._still_refused():
            return Embedded({}, refusal)
        try:
            rows = self._embedder.embed(texts).vectors
            return Embedded(dict(enumerate(rows)), None)
        except ProviderRefused as refusal:
            if refusal.about_input:
                return self._without_the_bad_ones(texts, refusal)
            self._wait(refusal)
            return Embedded({}, refusal)

    def _without_the_bad_ones(self, texts: Sequence[str], refusal: ProviderRefused) -> Embedded:
        """One text spoils the batch: halve it until the good ones have gone through."""
        if len(texts) == 1:
            return Embedded({}, refusal)
        middle = len(texts) // 2
        left, right = self.embed(texts[:middle]), self.embed(texts[middle:])
        vectors = {**left.vectors, **{middle + place: vector for place, vector in right.vectors.items()}}
        return Embedded(vectors, left.refusal or right.refusal)

    def _still_refused(self) -> ProviderRefused | None:
        with self._lock:
            if self._refusal is None or self._refusal[0] <= monotonic():
                self._refusal = None
                return None
            until, refusal = self._refusal
            return ProviderRefused(str(refusal), until - monotonic())

    def _wait(self, refusal: ProviderRefused) -> None:
        log.warning("provider.refused", why=str(refusal), retry_after_s=refusal.retry_after_s)
        with self._lock:
            self._refusal = (monotonic() + refusal.retry_after_s, refusal)
