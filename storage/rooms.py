"""What is left of the budgets that refuse: as control said a moment ago, for those who take memories in."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from memlane.storage import queries
from memlane.storage.looks import Look, Looked
from memlane.storage.nodes import Node

_SQL = queries.load("rooms")

EVERY_S = 1.0
"""How often control is asked."""

_PATIENCE_S = 1.0

PICO = 1_000_000
"""A micro-dollar in the unit that costs are counted in."""


@dataclass(frozen=True, slots=True)
class Room:
    """A budget that refuses, and what is left of it.

    Attributes:
        tenant: whose it is.
        agent: of which agent; empty: of the whole tenant.
        period: day or month.
        limit_micro: the budget, in micro-dollars.
        used: what is spent and set aside, in millionths of a micro-dollar.
        resets_at: when it begins anew.
    """

    tenant: str
    agent: str
    period: str
    limit_micro: int
    used: int
    resets_at: datetime

    @property
    def left(self) -> int:
        """What is left, in millionths of a micro-dollar: all of it when its period is over."""
        used = self.used if datetime.now(UTC) < self.resets_at else 0
        return self.limit_micro * PICO - used


@dataclass(frozen=True, slots=True)
class _Known:
    rooms: Mapping[str, Sequence[Room]] = field(default_factory=dict)
    prices: Mapping[str, int] = field(default_factory=dict)


class Rooms(Looked[_Known]):
    """What is left of the budgets that refuse, for one process.

    Args:
        control: where it is kept. While it is down, what was known goes on.
    """

    def __init__(self, control: Node) -> None:
        self._look = Look("rooms", lambda: _known(control), EVERY_S, _Known())

    def of(self, tenant: str) -> Sequence[Room]:
        """A tenant's budgets that refuse, and its agents'."""
        return self._look.value.rooms.get(tenant, ())

    def price(self, called: str) -> int | None:
        """What a million tokens of a model cost, in micro-dollars; so a token costs as many millionths of one."""
        return self._look.value.prices.get(called)


def _known(control: Node) -> _Known:
    rooms: defaultdict[str, list[Room]] = defaultdict(list)
    for row in control.run(_SQL["rooms"].render(), None, _PATIENCE_S):
        room = Room(*row)
        rooms[room.tenant].append(room)
    prices: dict[str, int] = dict(control.run(_SQL["prices"].render(), None, _PATIENCE_S)) if rooms else {}
    return _Known(dict(rooms), prices)
