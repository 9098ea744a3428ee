"""Auto-tune's decisions: within bounds, one at a time, nothing without a measure, and back from what was no better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlane.contract.upkeep import Knob, KnobStatus, Verdict
from memlane.storage.knobs import Trial
from memlane.tasks import tuning
from memlane.tasks.tuning import RATE, RECALL, Canary, Window

BOUNDS = {Knob.CLAIM_SIZE: (32, 1024), Knob.DRAINS_PER_SHARD: (1, 8), Knob.EF_SEARCH: (40, 800)}


def standing(knob: Knob, value: int, by: str = "settings") -> KnobStatus:
    return KnobStatus(knob, value, *BOUNDS[knob], by)


KNOBS = st.tuples(
    *(st.builds(standing, st.just(k), st.integers(*BOUNDS[k]), st.sampled_from(["settings", "hand"])) for k in Knob)
)
RATES = st.none() | st.floats(0.1, 1e5)
CANARIES = st.none() | st.builds(Canary, st.floats(0, 1), st.floats(0, 1000), st.integers(1, 100))


@given(KNOBS, RATES, CANARIES, st.integers(0, 1))
def test_a_turn_is_within_bounds_and_turns_something_that_was_not_set_by_hand(
    knobs: tuple[KnobStatus, ...], rate: float | None, canary: Canary | None, turn: int
) -> None:
    found = tuning.next_turn(knobs, rate, canary, set(), turn)
    if found is None:
        return
    least, most = BOUNDS[found.knob]
    assert least <= found.after <= most != found.before or found.after != found.before
    assert {one.knob: one.by for one in knobs}[found.knob] != "hand"
    assert (found.metric == RATE) == (found.knob is not Knob.EF_SEARCH)


@given(KNOBS, st.integers(0, 1))
def test_nothing_is_tried_where_nothing_is_known(knobs: tuple[KnobStatus, ...], turn: int) -> None:
    assert tuning.next_turn(knobs, None, None, set(), turn) is None


@given(st.floats(1, 1000), st.lists(st.floats(0.5, 2), min_size=1, max_size=30))
def test_whatever_comes_of_trials_it_ends(rate: float, luck: list[float]) -> None:
    """Each trial is decided, and what was taken back is not tried again while it is remembered."""
    values = {Knob.CLAIM_SIZE: 256, Knob.DRAINS_PER_SHARD: 4}
    in_vain: set[tuple[Knob, int]] = set()
    for turn, factor in enumerate(luck):
        knobs = [standing(knob, value) for knob, value in values.items()]
        wanted = tuning.next_turn(knobs, rate, None, in_vain, turn)
        if wanted is None:
            break
        assert (wanted.knob, wanted.after) not in in_vain
        decided = tuning.decide(wanted, rate * factor, None)
        assert decided.verdict is (Verdict.KEPT if rate * factor >= tuning.BETTER * rate else Verdict.TAKEN_BACK)
        if decided.verdict is Verdict.KEPT:
            values[wanted.knob] = wanted.after
            rate *= factor
        else:
            in_vain.add((wanted.knob, wanted.after))


@given(st.floats(0, 4000), st.floats(0, 1e6), st.floats(0, 1e4), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_rate_is_known_only_with_a_backlog_all_along(
    seconds: float, jobs: float, busy_s: float, before: int, now: int
) -> None:
    rate = Window(seconds, jobs, busy_s, before, now).rate
    if rate is not None:
        assert min(before, now) >= tuning.LEAST_JOBS
        assert rate == jobs / seconds


def test_a_rate_is_jobs_by_time() -> None:
    assert Window(300.0, 60_000.0, 290.0, 10_000, 5_000).rate == 200.0


@pytest.mark.parametrize(
    ("canary", "after"),
    [
        (Canary(0.90, 2.0, 10), 301),
        (Canary(0.96, 50.0, 10), None),
        (Canary(1.0, 50.0, 10), 133),
        (Canary(1.0, 5.0, 10), None),
    ],
)
def test_more_of_an_index_is_looked_at_for_recall_and_less_where_that_is_slow(
    canary: Canary, after: int | None
) -> None:
    found = tuning.next_turn([standing(Knob.EF_SEARCH, 200)], None, canary, set(), 0)
    assert (None if found is None else found.after) == after


def on_trial(before: int, after: int, metric: str, measured: float, ago_s: float = 300.0) -> Trial:
    knob = Knob.EF_SEARCH if metric == RECALL else Knob.CLAIM_SIZE
    return Trial(1, knob, before, after, "why", metric, measured, ago_s)


@pytest.mark.parametrize(
    ("trial", "rate", "recall", "verdict"),
    [
        (on_trial(256, 512, RATE, 100.0), 103.1, None, Verdict.KEPT),
        (on_trial(256, 512, RATE, 100.0), 102.0, None, Verdict.TAKEN_BACK),
        (on_trial(256, 512, RATE, 100.0), None, 1.0, Verdict.TRIAL),
        (on_trial(256, 512, RATE, 100.0, 3601.0), None, None, Verdict.TAKEN_BACK),
        (on_trial(200, 301, RECALL, 0.90), None, 0.94, Verdict.KEPT),
        (on_trial(200, 301, RECALL, 0.90), None, 0.90, Verdict.TAKEN_BACK),
        (on_trial(200, 133, RECALL, 1.0), None, 0.98, Verdict.KEPT),
        (on_trial(200, 133, RECALL, 1.0), None, 0.96, Verdict.TAKEN_BACK),
        (on_trial(200, 133, RECALL, 1.0), 500.0, None, Verdict.TRIAL),
    ],
)
def test_a_trial_is_decided_by_its_own_measure(
    trial: Trial, rate: float | None, recall: float | None, verdict: Verdict
) -> None:
    assert tuning.decide(trial, rate, None if recall is None else Canary(recall, 1.0, 10)).verdict is verdict
