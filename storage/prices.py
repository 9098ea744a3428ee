"""Prices: what a million tokens of each model cost."""

from memlane.contract.cost import Price
from memlane.errors import NotFound
from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("prices")


def listed(control: Node) -> list[Price]:
    """What each model costs, by its name."""
    return [Price(*row) for row in control.run(_SQL["listed"].render())]


def set_to(control: Node, price: Price) -> None:
    """What a model costs from now on; what was spent before stays as it was."""
    control.run(_SQL["set_to"].render(), {"model": price.model, "micro_per_million": price.micro_per_million})


def remove(control: Node, model: str) -> None:
    """Take a model's price away: where there is a budget, nothing is asked of it then.

    Raises:
        NotFound: it has none.
    """
    if not control.run(_SQL["remove"].render(), {"model": model}):
        raise NotFound(f"there is no price of {model}")
