"""Ranking: one order out of two searches and of the neighbourhood of each memory in its conversation.

Measured on two conversations of LoCoMo (Maharana et al., 2024), recall@10 with all-MiniLM-L6-v2:
vectors alone 0.469, words alone 0.639, both standardised and added 0.66, with what the neighbours
score added 0.75. So the score of a candidate is z(similarity) + z(words), over the candidates, plus
0.3 times that of each neighbour within two turns of the same thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memlane.storage.recall import Candidate

REACH = 2
"""How many turns before and after a memory are its neighbours."""

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
    context = _context(candidates, alone)
    ranked = [
        Ranked(candidate, float(own + around), float(around))
        for candidate, own, around in zip(candidates, alone, context, strict=True)
    ]
    return sorted(ranked, key=lambda r: (-r.score, r.candidate.agent, -r.candidate.number))[:limit]


def _standard(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    """Scores as standard deviations from their mean; a missing one counts as the lowest that is there."""
    known = [value for value in values if value is not None]
    if not known:
        return np.zeros(len(values))
    lowest = min(known)
    filled = np.array([lowest if value is None else value for value in values])
    spread = filled.std()
    return (filled - filled.mean()) / spread if spread > 0 else np.zeros(len(values))


def _context(candidates: Sequence[Candidate], alone: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What the neighbours of each candidate add; only candidates are looked at."""
    places = {
        (c.agent, c.thread, c.position): score
        for c, score in zip(candidates, alone, strict=True)
        if c.thread is not None
    }
    steps = [step for step in range(-REACH, REACH + 1) if step]
    return np.array(
        [
            NEIGHBOUR * sum(places.get((c.agent, c.thread, c.position + step), 0.0) for step in steps)
            if c.thread is not None and c.position is not None
            else 0.0
            for c in candidates
        ]
    )
