"""The tests' embedder: words hashed to signs, so that texts which share words lie close. No model, no cost."""

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from memlane.storage.halfvec import Matrix, Vector
from memlane.storage.models import Model
from memlane.tasks.embedders.contract import ANY, Embedding, unit_rows


class HashEmbedder:
    """The sum of one random sign vector per word (Charikar's random projections, 2002)."""

    most_texts = most_chars = ANY

    def __init__(self, model: Model) -> None:
        self.model = model

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many words each text has."""
        return [len(_words(text)) for text in texts]

    def embed(self, texts: Sequence[str]) -> Embedding:
        """Embed texts; never refuses."""
        words = [_words(text) for text in texts]
        rows: Matrix = np.stack([np.sum([_signs(w, self.model.dims) for w in found], axis=0) for found in words])
        rows[~rows.any(axis=1)] = 1.0  # words that cancel each other out
        return Embedding(unit_rows(rows.astype(np.float32), len(texts), self.model.dims), sum(map(len, words)))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower()) or [text]


@lru_cache(maxsize=100_000)
def _signs(word: str, dims: int) -> Vector:
    bits = np.unpackbits(np.frombuffer(blake2b(word.encode(), digest_size=dims // 8).digest(), np.uint8))
    return bits.astype(np.float32) * 2 - 1
