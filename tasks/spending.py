"""Spending: before a provider is called, the budgets say for whom; afterwards they learn what it came to.

A loan is what they allow of one request. When control does not answer, those go on who are known to have no
budget, and models that cost nothing; the others' vectors come later. What control could not be told waits here, and
what a killed process did not tell becomes a charge, since its reservation runs out.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from threading import Lock
from time import monotonic
from uuid import UUID, uuid4

import structlog
from cachetools import LRUCache

from memlane.errors import BudgetRefused, MemlaneError, Unavailable
from memlane.storage import spending
from memlane.storage.nodes import Node
from memlane.storage.spending import OVER_BUDGET, Answer, Call, Group, Used

log = structlog.get_logger(__name__)

_SOON_S = 2.0
"""When those are tried again who wait for calls under way to be settled, or for control."""

_SELDOM_S = 3600.0
"""The longest time until a budget is asked again: it may have been raised, and nobody said so."""

_FRESH_S = 60.0
"""How old it may be, when control is lost, that a tenant has no budgets; nobody sets one while it is away."""

_MOST_TENANTS = 10_000
"""Of how many tenants it is remembered that they have no budgets."""

_MOST_UNTOLD = 10_000
"""How many calls wait at most for control to learn of them."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one text may cost: for whom, and how many tokens at most."""

    group: Group
    tokens: int


@dataclass(frozen=True, slots=True)
class Loan:
    """What the budgets allow of a request.

    Attributes:
        id: the reservation; None if there is none.
        granted: by place, what goes on.
        refused: by place, why the others do not.
    """

    id: UUID | None
    granted: Mapping[int, Ask]
    refused: Mapping[int, BudgetRefused]

    def shares(self, tokens: int | None) -> dict[int, int]:
        """Each place's part of the tokens that were charged; None: nobody knows, so all that was reserved."""
        bounds = [ask.tokens for ask in self.granted.values()]
        return dict(zip(self.granted, bounds if tokens is None else apportioned(tokens, bounds), strict=True))

    def used(self, tokens: Mapping[int, int], requests: int = 1, failed: int = 0) -> dict[Group, Used]:
        """What each group used; a request is shared by texts."""
        here: dict[Group, list[int]] = {}
        for place, ask in self.granted.items():
            here.setdefault(ask.group, []).append(tokens[place])
        each = 1 / max(1, len(self.granted))
        return {
            group: Used(len(of_it) * each * requests, len(of_it) * each * failed, len(of_it), sum(of_it))
            for group, of_it in here.items()
        }


def apportioned(total: int, weights: Sequence[int]) -> list[int]:
    """A total in whole parts by weight, by largest remainders; none exceeds its weight unless the total does."""
    whole = sum(weights) or 1
    parts = [total * weight // whole for weight in weights]
    behind = sorted(range(len(weights)), key=lambda n: total * weights[n] % whole, reverse=True)
    for n in behind[: total - sum(parts)]:
        parts[n] += 1
    return parts


class Purse:
    """What one process spends on one model.

    Args:
        control: where budgets are.
        model: as the price list calls it.
        lives_s: how long a call takes at most; after that its reservation becomes a charge.
        price: of the model as long as control has not told it; None: unknown.
    """

    def __init__(self, control: Node, model: str, lives_s: float, price: int | None = None) -> None:
        self._control = control
        self._model = model
        self._lives_s = lives_s
        self._price = price
        self._free: LRUCache[str, float] = LRUCache(_MOST_TENANTS)
        """The tenants without budgets, and when control said so."""
        self._asked_at = 0.0
        self._untold: deque[tuple[UUID | None, Mapping[Group, Used], Call | None]] = deque(maxlen=_MOST_UNTOLD)
        self._lock = Lock()

    def lend(self, asked: Mapping[int, Ask]) -> Loan:
        """What the budgets allow of a request, by place; of a group that asks for too much, what there is room for.

        Whoever takes a loan settles it.
        """
        try:
            first, answers = self._reserve(asked)
            fitting = _fitting(asked, answers) if first.refused else first.granted
            if len(fitting) == len(first.granted):
                return first
            self.settle(first, {})
            again, _ = self._reserve(fitting)
            left_out = {place: why for place, why in first.refused.items() if place not in fitting}
            return replace(again, refused={**left_out, **again.refused})
        except Unavailable as error:
            return self._unasked(asked, error)

    def settle(self, loan: Loan, used: Mapping[Group, Used], call: Call | None = None) -> None:
        """Tell what became of a loan; what is not named was not used."""
        if loan.granted or used:
            self._tell(loan.id, used, call)

    def saved(self, groups: Mapping[Group, tuple[int, int]]) -> None:
        """Tell how many texts needed not be sent, and how many tokens they had cost when they were."""
        if groups:
            used = {group: Used(saved_texts=texts, saved_tokens=tokens) for group, (texts, tokens) in groups.items()}
            self._tell(None, used, None)

    def _tell(self, id_: UUID | None, used: Mapping[Group, Used], call: Call | None) -> None:
        """Tell control, and what it has not been told before; all of it waits while it does not answer."""
        with self._lock:
            self._untold.append((id_, used, call))
        while True:
            with self._lock:
                if not self._untold:
                    return
                known = self._untold.popleft()
            try:
                if not spending.settle(self._control, known[0], self._model, known[1], known[2]):
                    log.warning("spending.settled_late")  # it is charged as it was reserved
            except Unavailable as error:
                log.warning("spending.not_settled", why=str(error))
                with self._lock:
                    self._untold.appendleft(known)
                return
            except MemlaneError as error:  # what was set aside becomes a charge
                log.exception("spending.not_settled", why=str(error))

    def _reserve(self, asked: Mapping[int, Ask]) -> tuple[Loan, Mapping[Group, Answer]]:
        tokens: dict[Group, int] = {}
        for ask in asked.values():
            tokens[ask.group] = tokens.get(ask.group, 0) + ask.tokens
        id_ = uuid4()
        answers = spending.reserve(self._control, id_, self._model, tokens, self._lives_s)
        price = self._note(answers)
        granted = {place: ask for place, ask in asked.items() if answers[ask.group].granted}
        refused = {p: self._refusal(answers[ask.group]) for p, ask in asked.items() if p not in granted}
        return Loan(id_ if granted and price else None, granted, refused), answers

    def _note(self, answers: Mapping[Group, Answer]) -> int | None:
        """Remember what control said, for when it does not answer; the price."""
        with self._lock:
            self._asked_at = monotonic()
            for group, answer in answers.items():
                self._price = answer.price
                if answer.budgeted:
                    self._free.pop(group.tenant, None)
                else:
                    self._free[group.tenant] = self._asked_at
            return self._price

    def _refusal(self, answer: Answer) -> BudgetRefused:
        if answer.price is None:
            return BudgetRefused(f"{OVER_BUDGET}the model {self._model} has no price: set one", _SELDOM_S)
        if answer.soon or answer.resets_at is None:
            return BudgetRefused(f"{OVER_BUDGET}what is left is set aside for calls under way", _SOON_S)
        left_s = (answer.resets_at - datetime.now(UTC)).total_seconds()
        until = f"{answer.resets_at:%Y-%m-%d %H:%M} UTC"
        return BudgetRefused(f"{OVER_BUDGET}used up until {until}", max(_SOON_S, min(_SELDOM_S, left_s)))

    def _unasked(self, asked: Mapping[int, Ask], error: Unavailable) -> Loan:
        """What goes on while control does not answer: what is known to need no budget."""
        with self._lock:
            since = -inf if self._price == 0 else self._asked_at - _FRESH_S
            granted = {p: ask for p, ask in asked.items() if self._free.get(ask.group.tenant, -inf) >= since}
        if len(granted) < len(asked):
            log.warning("spending.not_asked", why=str(error))
        refusal = BudgetRefused(f"{OVER_BUDGET}nobody can be asked", _SOON_S)
        return Loan(None, granted, {place: refusal for place in asked if place not in granted})


def _fitting(asked: Mapping[int, Ask], answers: Mapping[Group, Answer]) -> dict[int, Ask]:
    """What there is room for: all of a group that was granted, and the first texts of another."""
    room = {group: answer.room or 0 for group, answer in answers.items() if not answer.granted}
    fitting = {}
    for place, ask in asked.items():
        if ask.group in room:
            if ask.tokens > room[ask.group]:
                continue
            room[ask.group] -= ask.tokens
        fitting[place] = ask
    return fitting
