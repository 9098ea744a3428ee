"""Ranking: one order out of two searches and of the neighbourhood of each memory in its conversation.

Measured on two conversations of LoCoMo (Maharana et al., 2024), recall@10 with all-MiniLM-L6-v2:
vectors alone 0.469, words alone 0.639, both standardised and added 0.66, with what the neighbours
score added 0.75. So the score of a candidate is z(similarity) + z(words), over the candidates, plus
0.3 times that of each neighbour within two turns of the same thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest

import numpy as np
import numpy.typing as npt

from memlane.storage.recall import Candidate

REACH = 2
"""How many turns before and after a memory are its neighbours."""

_STEPS = [step for step in range(-REACH, REACH + 1) if step]

NEIGHBOUR = 0.3
"""What a neighbour's score counts for."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its score and what the neighbours added to it."""

    candidate: Candidate
    score: float
    context: float


def rank(candidates: Sequence[Candidate], limit: int) -> list[Ranked]:
    """The best candidates, of one agent or of several, best first; among equals the newer one of an agent first."""
    if not candidates:
        return []
    alone = _standard([c.similarity for c in candidates]) + _standard([c.words or 0.0 for c in candidates])
    own = alone.tolist()
    context = _context(candidates, own)
    places = range(len(candidates))

    def order(place: int) -> tuple[float, str, int]:
        candidate = candidates[place]
        return -(own[place] + context[place]), candidate.agent, -candidate.number

    return [
        Ranked(candidates[place], own[place] + context[place], context[place])
        for place in nsmallest(limit, places, key=order)
    ]


def _standard(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    """Scores as standard deviations from their mean; a missing one counts as the lowest that is there."""
    known = [value for value in values if value is not None]
    if not known:
        return np.zeros(len(values))
    lowest = min(known)
    filled = np.array([lowest if value is None else value for value in values])
    spread = filled.std()
    return (filled - filled.mean()) / spread if spread > 0 else np.zeros(len(values))


def _context(candidates: Sequence[Candidate], alone: Sequence[float]) -> list[float]:
    """What the neighbours of each candidate add; only candidates are looked at."""
    threads: dict[tuple[str, str], dict[int | None, float]] = {}
    for candidate, score in zip(candidates, alone, strict=True):
        if candidate.thread is not None:
            threads.setdefault((candidate.agent, candidate.thread), {})[candidate.position] = score
    return [_around(threads, candidate) for candidate in candidates]


def _around(threads: Mapping[tuple[str, str], Mapping[int | None, float]], candidate: Candidate) -> float:
    if candidate.thread is None or candidate.position is None:
        return 0.0
    turns = threads[candidate.agent, candidate.thread]
    if len(turns) == 1:
        return 0.0
    return NEIGHBOUR * sum(turns.get(candidate.position + step, 0.0) for step in _STEPS)
