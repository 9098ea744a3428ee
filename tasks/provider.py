"""The provider: the embedder, and the patience that it asks for."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from time import monotonic

import structlog

from memlane.errors import ProviderRefused
from memlane.storage.halfvec import Vector
from memlane.tasks.embedders import Embedder

log = structlog.get_logger(__name__)

_BAD_IN_A_ROW = 3
"""So many single texts are refused before we believe that the provider refuses all."""


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
            if refusal.about_input and len(texts) > 1:
                return self._without_the_bad_ones(texts)
            if not refusal.about_input:
                self._wait(refusal)
            return Embedded({}, refusal)

    def _without_the_bad_ones(self, texts: Sequence[str]) -> Embedded:
        """One text spoils the batch: halve it until the good ones have gone through.

        A provider that refuses one text after the other and takes none means something else.
        """
        vectors: dict[int, Vector] = {}
        last: ProviderRefused | None = None
        bad = 0
        places = random.sample(range(len(texts)), len(texts))  # so that a few bad ones do not stand together
        parts = [places[len(places) // 2 :], places[: len(places) // 2]]
        while parts:
            part = parts.pop()
            try:
                rows = self._embedder.embed([texts[place] for place in part]).vectors
                vectors.update(zip(part, rows, strict=True))
            except ProviderRefused as refusal:
                last = refusal
                bad += len(part) == 1
                if not refusal.about_input or (bad == _BAD_IN_A_ROW and not vectors):
                    last = ProviderRefused(str(refusal), refusal.retry_after_s)
                    self._wait(last)
                    break
                if len(part) > 1:
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]
        return Embedded(vectors, last)

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
