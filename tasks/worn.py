"""Worn tables and indexes: which are due, why, and in which order. Decisions alone; storage/vacuum.py does the work."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from memlane.config.settings import Settings
from memlane.contract.upkeep import Action
from memlane.storage.vacuum import Index, Table

STOPS = 3
"""Work on a relation that was stopped so often within a day rests for as long: it takes time and leads nowhere."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on a table is due: so many rows, and a share of all that it has.

    Attributes:
        rows: of any kind; a smaller table is left alone until then.
        dead: share of rows whose room is to be used again.
        inserted: share of rows that came since it was vacuumed.
        changed: share of rows that changed since it was analyzed.
        index: share of an index's vectors that are gone.
    """

    rows: int
    dead: float
    inserted: float
    changed: float
    index: float


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to be done, and which threshold was passed; urgency: how far, 1 is just now."""

    schema: str
    relation: str
    action: Action
    why: str
    urgency: float


def limits_of(settings: Settings) -> Limits:
    """The limits that are set."""
    return Limits(
        settings.vacuum_rows,
        settings.vacuum_dead_share,
        settings.vacuum_inserted_share,
        settings.analyze_share,
        settings.reindex_share,
    )


def due(tables: Sequence[Table], limits: Limits) -> list[Chore]:
    """The tables that are due, the worst first."""
    found = (_chore(table, limits) for table in tables)
    return sorted((chore for chore in found if chore), key=lambda chore: -chore.urgency)


def _chore(table: Table, limits: Limits) -> Chore | None:
    passed = [
        (count / (limits.rows + share * table.rows), action, f"{count} {what} of {table.rows} rows")
        for count, share, action, what in (
            (table.dead, limits.dead, Action.VACUUM, "dead"),
            (table.inserted, limits.inserted, Action.VACUUM, "new"),
            (table.changed, limits.changed, Action.ANALYZE, "changed"),
        )
    ]
    over = [one for one in passed if one[0] >= 1.0]
    if not over:
        return None
    action = Action.VACUUM if any(one[1] is Action.VACUUM for one in over) else Action.ANALYZE
    urgency, _, why = max((one for one in over if one[1] is action), key=lambda one: one[0])
    return Chore(table.schema, table.name, action, why, urgency)


def bloated(schema: str, index: Index, limits: Limits) -> Chore | None:
    """An index that is due to be built again, since too many of its vectors are gone."""
    if index.built is None or index.living is None or index.built - index.living <= limits.index * index.built:
        return None
    gone = index.built - index.living
    why = f"{gone} of {index.built} vectors are gone"
    return Chore(schema, index.name, Action.REINDEX, why, gone / index.built / limits.index)


def in_order(
    tables: Sequence[Chore],
    reindexes: Sequence[Chore],
    bloated_tables: Collection[tuple[str, str]],
    stops: Mapping[tuple[str, str], int],
) -> list[Chore]:
    """The order in which one after the other is done.

    An index goes before its table, whose vacuum is cheap when the index holds nothing dead, and after the other tables,
    since it takes long. What was stopped lately goes last, with whatever time is left; what was stopped often rests.

    Args:
        tables: the worst first.
        reindexes: of indexes.
        bloated_tables: those that they are of, by schema and name.
        stops: how often work was stopped, by schema and relation.
    """
    waiting = [chore for chore in tables if (chore.schema, chore.relation) in bloated_tables]
    first = [chore for chore in tables if chore not in waiting]
    found = [*first, *sorted(reindexes, key=lambda chore: -chore.urgency), *waiting]

    def stopped(chore: Chore) -> int:
        return stops.get((chore.schema, chore.relation), 0)

    return sorted((chore for chore in found if stopped(chore) < STOPS), key=stopped)
