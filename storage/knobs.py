"""Knobs: what auto-tune turns, as control said a moment ago; where it says nothing, the settings hold."""

from collections.abc import Mapping
from dataclasses import dataclass

from memlane.config.settings import Settings
from memlane.contract.upkeep import Knob, KnobStatus, Tuning, Verdict
from memlane.errors import FieldError, InvalidInput
from memlane.storage import queries
from memlane.storage.looks import Look, Looked
from memlane.storage.nodes import Node

_SQL = queries.load("knobs")

EVERY_S = 2.0
"""How often control is asked; a turn holds everywhere within that time."""


@dataclass(frozen=True, slots=True)
class Turned:
    """How a knob was turned, and whether by hand."""

    value: int
    by_hand: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """A turn on trial: which, what it was turned for, and how long ago, in seconds."""

    number: int
    knob: Knob
    before: int
    after: int
    why: str
    metric: str
    metric_before: float
    ago_s: float


class Knobs(Looked[Mapping[Knob, Turned]]):
    """How the knobs stand, for one process.

    Args:
        control: where it is kept. While it is down, what was known goes on.
    """

    def __init__(self, control: Node) -> None:
        first: Mapping[Knob, Turned] = {}
        self._look = Look("knobs", lambda: turned(control), EVERY_S, first)

    def of(self, settings: Settings, knob: Knob) -> int:
        """How a knob stands, with these settings; the first who asks waits for a moment, nobody else does.

        Where auto-tune is off, only what was set by hand holds beside the settings.
        """
        return standing(settings, knob, self._look.value).value


def turned(control: Node) -> dict[Knob, Turned]:
    """The knobs that were turned; those that only a newer version knows are left out."""
    known = {knob.value for knob in Knob}
    rows = control.run(_SQL["known"].render())
    return {Knob(knob): Turned(int(value), by_hand) for knob, value, by_hand in rows if knob in known}


def standing(settings: Settings, knob: Knob, found: Mapping[Knob, Turned]) -> KnobStatus:
    """How a knob stands: by hand, by auto-tune where that is on, or by the settings; what was turned within bounds."""
    least, most = bounds(settings, knob)
    one = found.get(knob)
    if one is None or not (one.by_hand or settings.autotunes):
        return KnobStatus(knob, unless_turned(settings, knob), least, most, "settings")
    return KnobStatus(knob, min(max(one.value, least), most), least, most, "hand" if one.by_hand else "auto-tune")


def bounds(settings: Settings, knob: Knob) -> tuple[int, int]:
    """How far a knob may be turned."""
    return {
        Knob.CLAIM_SIZE: settings.tune_claim_size,
        Knob.DRAINS_PER_SHARD: settings.tune_drains_per_shard,
        Knob.EF_SEARCH: settings.tune_ef_search,
    }[knob]


def unless_turned(settings: Settings, knob: Knob) -> int:
    """How a knob stands that nobody has turned."""
    return {
        Knob.CLAIM_SIZE: settings.claim_size,
        Knob.DRAINS_PER_SHARD: settings.drains_per_shard,
        Knob.EF_SEARCH: settings.ef_search,
    }[knob]


def status(control: Node, settings: Settings) -> list[KnobStatus]:
    """How all knobs stand."""
    found = turned(control)
    return [standing(settings, knob, found) for knob in Knob]


def set_by_hand(control: Node, settings: Settings, knob: Knob, value: int) -> KnobStatus:
    """Set a knob, which auto-tune leaves alone from then on.

    Raises:
        InvalidInput: it is out of the bounds that the settings say.
    """
    least, most = bounds(settings, knob)
    if not least <= value <= most:
        detail = f"{knob} has to be from {least} to {most}: MEMLANE_TUNE_{knob.upper()} says how far"
        raise InvalidInput([FieldError("value", detail)])
    before = standing(settings, knob, turned(control)).value
    params = {"knob": knob.value, "before": before, "after": value, "why": "set by hand", "by_hand": True}
    control.run(_SQL["set"].render(), params)
    return KnobStatus(knob, value, least, most, "hand")


def reset(control: Node, settings: Settings, knob: Knob) -> KnobStatus:
    """Let a knob stand as the settings say, and auto-tune turn it from there."""
    before, after = standing(settings, knob, turned(control)).value, unless_turned(settings, knob)
    params = {"knob": knob.value, "before": before, "after": after, "why": "given back by hand", "by_hand": False}
    control.run(_SQL["set"].render(), params)
    return standing(settings, knob, {})


def begin_trial(control: Node, one: Trial) -> bool:
    """Turn a knob, on trial; False if another is on trial, or it was set by hand meanwhile. Its number is not used."""
    params = {
        "knob": one.knob.value,
        "before": one.before,
        "after": one.after,
        "why": one.why,
        "metric": one.metric,
        "metric_before": one.metric_before,
    }
    return bool(control.run(_SQL["begin_trial"].render(), params))


def trial(control: Node) -> Trial | None:
    """What is on trial now."""
    rows = control.run(_SQL["trial"].render())
    if not rows:
        return None
    number, knob, before, after, *rest = rows[0]
    return Trial(number, Knob(knob), int(before), int(after), *rest)


def decide(control: Node, one: Trial, verdict: Verdict, metric_after: float | None) -> bool:
    """Keep a turn, or take it back; False if somebody else has decided."""
    params = {"number": one.number, "state": verdict.value, "metric_after": metric_after}
    return bool(control.run(_SQL["decide"].render(), params)[0][0])


def in_vain(control: Node) -> set[tuple[Knob, int]]:
    """Where knobs were turned to within a day and taken back from."""
    known = {knob.value for knob in Knob}
    return {(Knob(knob), int(after)) for knob, after in control.run(_SQL["in_vain"].render()) if knob in known}


def history(control: Node, limit: int) -> list[Tuning]:
    """The turns of knobs, the latest first."""
    rows = control.run(_SQL["history"].render(), {"limit": limit})
    return [_tuning(*row) for row in rows]


def _tuning(knob: str, before: float, after: float, why: str, metric: str, state: str, *rest: object) -> Tuning:
    return Tuning(Knob(knob), before, after, why, metric, Verdict(state), *rest)  # type: ignore[arg-type]  # from a row
