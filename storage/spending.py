"""Spending: what a call to a provider may cost is set aside before it, and turned into what it did cost afterwards.

All of it is in control, in functions of the database, so that however many processes spend at once, settled and
reserved together stay within the budgets. Groups are (tenant, agent); costs are in tokens here, in money there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("spending")

OVER_BUDGET = "budget: "
"""How the reason of a job begins that waits for its budget."""

PATIENCE_S = 2.0
"""How long control is waited for: a batch must not be held up by it for longer."""


class Group(NamedTuple):
    """Who spends; `agent` is empty for texts that belong to none."""

    tenant: str
    agent: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the budgets say to a group.

    Attributes:
        granted: whether it may spend what it asked for.
        budgeted: whether its tenant has budgets, be it those of other agents.
        price: of the model, in micro-dollars per million tokens; None: it has none.
        room: for how many tokens there would be room, if it was refused.
        soon: whether there will be room for it when calls under way are settled.
        resets_at: when the budgets that are in the way begin anew.
    """

    granted: bool
    budgeted: bool
    price: int | None
    room: int | None = None
    soon: bool | None = None
    resets_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """What a call came to for one group.

    Attributes:
        requests: its share of the requests.
        failed: its share of those that brought nothing.
        texts: how many texts were sent.
        tokens: how many tokens were charged.
        saved_texts: how many needed not be sent: their vectors were cached, or came for another in the batch.
        saved_tokens: how many tokens those had cost when they were sent.
    """

    requests: float = 0.0
    failed: float = 0.0
    texts: int = 0
    tokens: int = 0
    saved_texts: int = 0
    saved_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was answered: how many texts it had, and how long that took in seconds."""

    texts: int
    took_s: float


def reserve(control: Node, id_: UUID, model: str, asked: Mapping[Group, int], lives_s: float) -> dict[Group, Answer]:
    """Set aside what a call may cost at most, for the groups whose budgets allow it.

    Args:
        control: where budgets are.
        id_: names the reservation; there is none if nothing is granted, or nothing costs anything.
        model: as the price list calls it.
        asked: tokens by group.
        lives_s: after how long an unsettled reservation becomes a charge.

    Raises:
        Unavailable: control does not answer; if it was reserved after all, that becomes a charge.
    """
    groups = list(asked)
    params = {
        "id": id_,
        "model": model,
        "tenants": [group.tenant for group in groups],
        "agents": [group.agent for group in groups],
        "tokens": [asked[group] for group in groups],
        "lives_s": lives_s,
    }
    rows = control.run(_SQL["reserve"].render(), params, PATIENCE_S, writes=True)
    return {groups[place]: Answer(*rest) for place, *rest in rows}


def settle(control: Node, id_: UUID | None, model: str, used: Mapping[Group, Used], call: Call | None = None) -> bool:
    """Turn a reservation into what the call came to; False if it had run out, and is charged as a whole.

    Args:
        control: where budgets are.
        id_: the reservation; None: there was none, and what is used is only counted.
        model: as the price list calls it.
        used: by group; what is not named was not used.
        call: the request, if it was answered.

    Raises:
        Unavailable: control does not answer.
    """
    params = {
        "id": id_,
        "model": model,
        **_columns(list(used), list(used.values())),
        "sent": call.texts if call else 0,
        "took_s": call.took_s if call else None,
    }
    return bool(control.run(_SQL["settle"].render(), params, PATIENCE_S, writes=True)[0][0])


def _columns(groups: Sequence[Group], used: Sequence[Used]) -> dict[str, list[object]]:
    return {
        "tenants": [group.tenant for group in groups],
        "agents": [group.agent for group in groups],
        "requests": [one.requests for one in used],
        "failed": [one.failed for one in used],
        "texts": [one.texts for one in used],
        "tokens": [one.tokens for one in used],
        "saved_texts": [one.saved_texts for one in used],
        "saved_tokens": [one.saved_tokens for one in used],
    }


def charge_one(control: Node) -> bool:
    """Charge one reservation that ran out, since nobody knows what became of its call; False if there is none."""
    return bool(control.run(_SQL["charge_one"].render(), writes=True)[0][0])
