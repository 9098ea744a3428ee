"""What every embedder keeps to."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from memlane.errors import ProviderRefused
from memlane.storage.halfvec import Matrix
from memlane.storage.models import Model


@dataclass(frozen=True, slots=True)
class Embedding:
    """What an embedder returns.

    Attributes:
        vectors: one row per text, in their order, each of length 1; shape (texts, dims).
        tokens: how many tokens the provider counted; 0 if it does not say.
        requests: how many requests it took: all but the last were refused.
    """

    vectors: Matrix
    tokens: int
    requests: int = 1


class Embedder(Protocol):
    """A source of vectors; one instance per process, made after the fork."""

    model: Model
    """The model's name, kept with each vector, and its dimensions."""
    most_texts: int
    """How many texts one request may have."""
    most_chars: int
    """How many characters they may have together, if they are more than one."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text is charged for at most."""

    def embed(self, texts: Sequence[str]) -> Embedding:
        """Embed texts.

        Raises:
            ProviderRefused: it cannot or will not now, or its answer is unusable; nothing was kept. It says whether
                tokens were charged all the same.
        """


ANY = sys.maxsize
"""No limit for those who work on this machine."""


def unit_rows(rows: Matrix, texts: int, dims: int) -> Matrix:
    """Check a provider's answer and bring its vectors to length 1.

    Raises:
        ProviderRefused: the count or the dimensions are wrong, or a vector is not finite or all zero.
    """
    if rows.shape != (texts, dims):
        raise ProviderRefused(f"the provider answered {rows.shape} where {(texts, dims)} was asked for")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise ProviderRefused("the provider answered a vector that is not finite, or all zero")
    unit: Matrix = (rows / lengths).astype(np.float32)
    return unit
