"""Properties of the one order that comes out of two searches."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from memlane.storage.recall import Candidate
from memlane.tasks.ranking import NEIGHBOUR, rank

SCORES = st.none() | st.floats(-1, 1)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        agent=st.just("ada"),
        number=st.integers(1, 10_000),
        thread=st.none() | st.sampled_from(["a", "b"]),
        position=st.integers(1, 20),
        similarity=SCORES,
        words=st.none() | st.floats(0, 20),
    ),
    unique_by=(lambda candidate: candidate.number, lambda candidate: (candidate.thread, candidate.position)),
    max_size=30,
)


def candidate(
    number: int, similarity: float | None, words: float | None = None, position: int | None = None
) -> Candidate:
    return Candidate("ada", number, "t" if position else None, position, similarity, words)


@given(CANDIDATES, st.integers(1, 40))
def test_the_best_come_first_and_none_is_made_up(candidates: list[Candidate], limit: int) -> None:
    ranked = rank(candidates, limit)
    assert len(ranked) == min(limit, len(candidates))
    scores = [r.score for r in ranked]
    assert scores == sorted(scores, reverse=True)
    assert len({r.candidate.number for r in ranked}) == len(ranked)


@given(CANDIDATES)
def test_the_order_of_candidates_does_not_matter(candidates: list[Candidate]) -> None:
    forwards = [r.candidate.number for r in rank(candidates, 30)]
    backwards = [r.candidate.number for r in rank(candidates[::-1], 30)]
    rounded = {r.candidate.number: round(r.score, 9) for r in rank(candidates, 30)}
    assert [rounded[n] for n in forwards] == [rounded[n] for n in backwards]


def test_nothing_has_no_order() -> None:
    assert rank([], 10) == []


def test_better_by_meaning_and_by_words_is_better() -> None:
    ranked = rank([candidate(1, 0.9, 5.0), candidate(2, 0.1, 1.0), candidate(3, 0.5)], 10)
    assert [r.candidate.number for r in ranked] == [1, 3, 2] or ranked[0].candidate.number == 1


def test_without_vectors_words_decide() -> None:
    ranked = rank([candidate(1, None, 1.0), candidate(2, None, 3.0)], 10)
    assert [r.candidate.number for r in ranked] == [2, 1]


def test_a_neighbour_lifts_and_a_stranger_does_not() -> None:
    ranked = rank(
        [
            candidate(1, 0.9, position=5),
            candidate(2, 0.2, position=6),
            candidate(3, 0.2, position=15),
            candidate(4, 0.2),
        ],
        10,
    )
    scores = {r.candidate.number: r for r in ranked}
    assert scores[2].score > scores[3].score
    assert scores[3].context == scores[4].context == 0
    assert scores[2].context == NEIGHBOUR * (scores[1].score - scores[1].context)


def test_a_neighbour_is_of_the_same_agent() -> None:
    """Two agents may have a conversation of the same name."""
    other = replace(candidate(2, 0.2, position=6), agent="bob")
    ranked = rank([candidate(1, 0.9, position=5), other], 10)
    assert {r.context for r in ranked} == {0.0}


def test_among_equals_the_newer_comes_first() -> None:
    assert [r.candidate.number for r in rank([candidate(1, 0.5), candidate(2, 0.5)], 2)] == [2, 1]
