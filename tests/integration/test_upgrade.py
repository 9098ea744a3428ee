"""An older version works on beside this one: its statements, as they were released, on this version's schema.

tests/recorded/ has the SQL of each released version. A migration that breaks one of them has to wait until no process
of that version runs: it belongs into a `post` file.
"""

from pathlib import Path

import pytest

from memlane.config.settings import Settings
from memlane.contract import Event
from memlane.storage import embedding_cache, ids, jobs, memories, queries
from memlane.storage.jobs import Kind
from memlane.storage.queries import Query
from memlane.tasks import forget
from memlane.tasks.lane import Lane
from tests.integration.test_migrations import PARTS, prepare, utility
from tests.support import accepted, count_rows, drain_all, item, ledger_of, remembered, sql

RECORDED = Path(__file__).parents[1] / "recorded"
VERSIONS = sorted(path.parent.name for path in RECORDED.glob("*/jobs.sql"))


def recorded(version: str, table: str) -> dict[str, Query]:
    """The named queries of a released version."""
    return dict(queries.parse(table, (RECORDED / version / f"{table}.sql").read_text()))


@pytest.mark.parametrize("version", VERSIONS)
def test_older_statements_fit_the_schema(version: str, lane: Lane, settings: Settings) -> None:
    shard = lane.cluster.shard(0)
    parts = {name: query.text for name, query in recorded(version, "recall").items()}
    later = recorded(version, "jobs")["later"].text
    with sql(settings, shard.node.name) as connection:
        for table in sorted(path.stem for path in (RECORDED / version).glob("*.sql")):
            for name, query in recorded(version, table).items():
                text = query.render(
                    similarity=parts["filtered_similarity"],
                    holds=parts["holds"],
                    later=later,
                    shard=shard.schema,
                    vectors=lane.table,
                    table="ids",
                    index="some_index",
                    quoted_shard=f"'{shard.schema}'",
                    agent="1",
                    upto="1",
                )
                if f"{table}.{name}" in PARTS or utility(text):
                    continue
                prepare(connection, text)


_ASKED_OTHERWISE = {("embedding_cache", "find")}
"""What this version's functions cannot run: it is asked for one tenant, and answers with less."""


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_worker_and_gateway_do_their_work(
    version: str, lane: Lane, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accept, claim, embed, finish and forget with the statements of that version, beside memories of this one."""
    remembered(lane, item("of this version", pinned=True))
    for module, table in ((ids, "ids"), (jobs, "jobs"), (memories, "memories"), (embedding_cache, "embedding_cache")):
        older = {
            name: query for name, query in recorded(version, table).items() if (table, name) not in _ASKED_OTHERWISE
        }
        monkeypatch.setattr(module, "_SQL", {**queries.load(table), **older})
    params = ids._params
    monkeypatch.setattr(ids, "_params", lambda offers: {**params(offers), "tenant": "acme"})  # it took one for all
    (receipt,) = accepted(lane, item("of the older version", tags=["a"], thread="t"))
    drain_all(lane, Kind.REMEMBER)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, lane.table) == 2
    monkeypatch.undo()
    assert forget.forget_memory(lane, "acme", "ada", receipt.id)
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[Event.STORED] == 2
