"""Vectors with structure: those of sentences by minilm, and clusters of others around them.

Random ones say nothing of an index for nearest neighbours: they are all about equally far from each other.
"""

from functools import cache
from itertools import islice

import numpy as np

from memlane.bench.texts import fresh_texts, queries
from memlane.config.settings import load_settings
from memlane.storage.halfvec import Matrix
from memlane.tasks.embedders import Embedder, make_embedder

_SENTENCES = 1000
_MOVED = 0.6
_NOISE = 0.1
"""With these, 3,000 vectors are spread as those of 3,000 such sentences are: 44 dimensions carry the variance (46), the
nearest neighbour is 0.71 away (0.68), the local dimension by the 20 nearest is 19 (22)."""

_DIMS = 384


def normal(count: int, seed: int = 1) -> Matrix:
    """Random vectors of length 1, where only their size matters."""
    return _unit(np.random.default_rng(seed).standard_normal((count, _DIMS), dtype=np.float32))


def around_sentences(count: int, seed: int = 1) -> Matrix:
    """Vectors around those of sentences, each moved as one sentence differs from another, and a little beside it.

    The shape is (count, dims), each is of length 1.
    """
    middles, others, more = np.random.default_rng(seed).integers(0, _SENTENCES, (3, count))
    known = _sentences()
    return _unit(known[middles] + _MOVED * (known[others] - known[more]) + _NOISE * normal(count, seed))


def of_questions(count: int) -> Matrix:
    """The vectors of questions about what the sentences are about."""
    return _embedded(list(islice(queries(count), count)))


@cache
def _sentences() -> Matrix:
    return _embedded(list(islice(fresh_texts(1), _SENTENCES)))


def _embedded(texts: list[str]) -> Matrix:
    return _minilm().embed(texts).vectors


@cache
def _minilm() -> Embedder:
    return make_embedder(load_settings(nodes={"none": "postgresql://none"}, embedder="minilm"))


def _unit(rows: Matrix) -> Matrix:
    unit: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
