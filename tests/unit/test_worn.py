"""Which tables and indexes are due, and in which order."""

from memlane.contract.upkeep import Action
from memlane.storage.vacuum import Index, Table
from memlane.tasks import worn
from memlane.tasks.worn import Chore, Limits

LIMITS = Limits(rows=100, dead=0.1, inserted=0.2, changed=0.1, index=0.25)


def table(name: str = "t", rows: int = 1000, dead: int = 0, inserted: int = 0, changed: int = 0) -> Table:
    return Table("shard_00", name, rows, dead, inserted, changed)


def chore(name: str, action: Action = Action.VACUUM, urgency: float = 1.0) -> Chore:
    return Chore("shard_00", name, action, "why", urgency)


def test_under_its_thresholds_a_table_is_left_alone() -> None:
    assert worn.due([table(dead=199, inserted=299, changed=199), table(rows=0)], LIMITS) == []


def test_each_threshold_has_its_own_action_and_reason() -> None:
    def only(one: Table) -> tuple[Action, str]:
        (found,) = worn.due([one], LIMITS)
        return found.action, found.why

    assert only(table(dead=200)) == (Action.VACUUM, "200 dead of 1000 rows")
    assert only(table(inserted=300)) == (Action.VACUUM, "300 new of 1000 rows")
    assert only(table(changed=200)) == (Action.ANALYZE, "200 changed of 1000 rows")
    assert only(table(dead=201, changed=9000)) == (Action.VACUUM, "201 dead of 1000 rows")


def test_the_worst_goes_first() -> None:
    found = worn.due([table("bad", dead=300), table("worst", dead=900), table("fine"), table("due", dead=200)], LIMITS)
    assert [one.relation for one in found] == ["worst", "bad", "due"]


def test_an_index_is_bloated_by_what_is_gone() -> None:
    def of(built: int | None, living: int | None) -> Chore | None:
        return worn.bloated("shard_00", Index(1, "m", 9, "i", "t", built, living), LIMITS)

    assert of(None, 10) is None
    assert of(100, None) is None
    assert of(100, 75) is None
    assert of(0, 0) is None
    found = of(100, 74)
    assert found is not None
    assert (found.action, found.why) == (Action.REINDEX, "26 of 100 vectors are gone")


def test_an_index_goes_before_its_table_and_after_the_others() -> None:
    tables = [chore("vectors", urgency=9), chore("jobs", urgency=2)]
    found = worn.in_order(tables, [chore("i", Action.REINDEX)], {("shard_00", "vectors")}, {})
    assert [one.relation for one in found] == ["jobs", "i", "vectors"]


def test_what_was_stopped_goes_last_and_what_is_stopped_again_and_again_rests() -> None:
    tables = [chore("huge"), chore("large"), chore("small")]
    stops = {("shard_00", "huge"): worn.STOPS, ("shard_00", "large"): 1}
    assert [one.relation for one in worn.in_order(tables, [], set(), stops)] == ["small", "large"]
