"""Progress: how far a duty got, part by part, with what it cannot do in one slice or has to know the next time."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.nodes import Node

_SQL = queries.load("progress")


def of(control: Node, duty: str) -> dict[str, Any]:
    """The places of a duty by part, what has waited longest first."""
    return dict(control.run(_SQL["of"].render(), {"duty": duty}))


def lately(control: Node, duty: str, within_s: float) -> dict[str, Any]:
    """The places of a duty that were noted within so many seconds, by part."""
    return dict(control.run(_SQL["lately"].render(), {"duty": duty, "within_s": within_s}))


def place(control: Node, duty: str, part: str) -> tuple[Any, float] | None:
    """How far a duty got in a part, and how long ago that was, in seconds; None if it never began."""
    rows = control.run(_SQL["place"].render(), {"duty": duty, "part": part})
    return (rows[0][0], rows[0][1]) if rows else None


def keep(control: Node, duty: str, part: str, got_to: Any) -> None:
    """Note how far a duty got in a part: anything that JSON has."""
    control.run(_SQL["keep"].render(), {"duty": duty, "part": part, "place": Jsonb(got_to)})


def in_order(shards: Sequence[Shard], known: Mapping[str, Any]) -> list[Shard]:
    """Shards that nobody has looked at first, then those that have waited longest."""
    order = {part: place for place, part in enumerate(known)}
    return sorted(shards, key=lambda shard: order.get(str(shard.number), -1))
