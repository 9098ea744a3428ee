"""Ticks: a duty runs once per slot of time, however many beats there are, and how each run ended is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from memlane.contract.status import DutyStatus
from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("control")


class Outcome(StrEnum):
    """How a run of a duty ended."""

    DONE = "done"
    FAILED = "failed"
    """It raised; the next slot tries again."""
    STOPPED = "stopped"
    """It did not end with its slice, and was ended."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A slot that is ours: nobody else runs the duty in it."""

    name: str
    slot: datetime


def claim(control: Node, name: str, every_s: float, slice_s: float, holder: str) -> Tick | None:
    """The slot that it is now, by the database's clock, if nobody else has it."""
    params = {"name": name, "every_s": every_s, "slice_s": slice_s, "holder": holder}
    rows = control.run(_SQL["claim_tick"].render(), params)
    return Tick(name, rows[0][0]) if rows else None


def finish(control: Node, tick: Tick, outcome: Outcome, detail: str) -> None:
    """Note how a run ended."""
    params = {"name": tick.name, "slot": tick.slot, "outcome": outcome.value, "detail": detail[:_DETAIL]}
    control.run(_SQL["finish_tick"].render(), params)


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a duty.

    Attributes:
        outcomes: how many of the last day ended how; `broken_off`: nothing was heard of them.
        since_good_s: how long ago one last ended well, in seconds; None: none did in the week that is kept.
        since_first_s: how long ago the first began that is kept, in seconds.
    """

    outcomes: Mapping[str, int]
    since_good_s: float | None = None
    since_first_s: float = 0.0


def runs(control: Node) -> dict[str, Runs]:
    """The runs of each duty."""
    found: dict[str, Runs] = {}
    for name, ended, count, since_end_s, since_first_s in control.run(_SQL["runs"].render()):
        so_far = found.get(name, Runs({}))
        found[name] = Runs(
            {**so_far.outcomes, ended: count} if ended is not None and count else so_far.outcomes,
            since_end_s if ended == Outcome.DONE else so_far.since_good_s,
            max(so_far.since_first_s, since_first_s),
        )
    return found


def drop_old(control: Node) -> None:
    """Let go of ticks that are older than a week."""
    control.run(_SQL["drop_old_ticks"].render())


def last(control: Node) -> list[DutyStatus]:
    """The last run of each duty."""
    return [DutyStatus(*row) for row in control.run(_SQL["ticks"].render())]


_DETAIL = 500
"""The longest detail that is kept, in characters."""
