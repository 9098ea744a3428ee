"""Ticks: a duty runs once per slot of time, however many beats there are, and one that broke off is seen."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from memlane.contract.status import DutyStatus
from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("control")


def slot_of(moment: datetime, every_s: int) -> datetime:
    """The beginning of the slot that a moment lies in."""
    seconds = int(moment.timestamp()) // every_s * every_s
    return datetime.fromtimestamp(seconds, UTC)


@contextmanager
def once_per_slot(control: Node, name: str, every_s: int, holder: str) -> Iterator[bool]:
    """Whether we are the one to run a duty in this slot; it is noted as done when the block ends well."""
    slot = slot_of(datetime.now(UTC), every_s)
    mine = bool(control.run(_SQL["claim_tick"].render(), {"name": name, "slot": slot, "holder": holder}))
    yield mine
    if mine:
        control.run(_SQL["finish_tick"].render(), {"name": name, "slot": slot})
        control.run(_SQL["drop_old_ticks"].render())


def last(control: Node) -> list[DutyStatus]:
    """The last run of each duty."""
    return [DutyStatus(*row) for row in control.run(_SQL["ticks"].render())]
