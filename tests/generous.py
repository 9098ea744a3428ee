"""A pace without limits and a purse without bounds, for tests of what lies behind them."""

from collections.abc import Mapping

from memlane.storage.spending import Call, Group, Used
from memlane.tasks.pace import Turn
from memlane.tasks.spending import Ask, Loan, Purse


class NoLimits:
    """Leaves a turn to everybody at once."""

    def turn(self, tokens: int, patience_s: float) -> Turn:  # noqa: ARG002  # there are no limits
        return self

    def used(self, tokens: int | None) -> None: ...

    def refused(self, retry_after_s: float) -> None: ...

    def unused(self) -> None: ...


class Rich(Purse):
    """Lends whatever is asked for."""

    def __init__(self) -> None:
        self.told: list[Mapping[Group, Used]] = []

    def lend(self, asked: Mapping[int, Ask]) -> Loan:
        return Loan(None, asked, {})

    def settle(self, loan: Loan, used: Mapping[Group, Used], call: Call | None = None) -> None:  # noqa: ARG002
        self.told.append(used)
