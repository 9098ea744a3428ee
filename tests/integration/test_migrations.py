"""Schemas: migrated once, from any number of processes, and every named query fits them."""

from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import psycopg
import pytest
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from memlane.config.settings import Settings
from memlane.embedded.postgres import Postgres
from memlane.errors import Misconfigured, Unavailable
from memlane.storage import migrator, models, queries
from memlane.storage.memories import BORN, RESONANCE, STILL, filter_params
from memlane.storage.migrator import Migration, migrate, migrations
from memlane.storage.models import Model
from memlane.tasks.embedders import model_of
from memlane.tasks.lane import Lane
from tests.support import MakeSettings, sql

PARTS = {
    "recall.holds",
    "recall.every_similarity",
    "recall.filtered_similarity",
    "jobs.later",
    "jobs.delays",
    "jobs.timeline",
}
PARTS |= {"recall.indexed_similarity", "recall.no_similarity", "recall.visible", "memories.columns", "memories.alive"}
PARTS |= {"parked.had", "recall.fresh", "recall.in_tiers", "recall.fresh_similarity", "recall.with_memories"}
PARTS |= {"recall.lexemes", "recall.share", "recall.rarity", "recall.of_one"}
PARTS |= {"recall.every_match", "recall.best_matches", "recall.near_of_many", "recall.near_of_none"}
PARTS |= {"resonance.now", "resonance.born", "resonance.still", "ledger.bucket"}
"""Parts of other queries, which are no statements of their own."""

TABLES = sorted(path.name.removesuffix(".sql") for path in (files("memlane.storage") / "sql").iterdir())


def test_twice_changes_nothing(settings: Settings) -> None:
    done = migrate(settings, model_of(settings))
    assert done.applied == []
    assert not done.lacking


def test_from_four_processes_at_once(postgres: Postgres) -> None:
    names = ["many_1", "many_2"]
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE DATABASE {name}".encode())
    settings = Settings(
        nodes={"node-1": postgres.uri("many_1"), "node-2": postgres.uri("many_2")},
        shard_count=4,
        embedder="hash",
    )
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: migrate(settings, model_of(settings)), range(4)))
    applied = [line for migrated in done for line in migrated.applied]
    files = {kind: len(migrations(kind)) for kind in ("control", "shard", "model")}
    assert len(applied) == len(set(applied)) == files["control"] + 4 * (files["shard"] + files["model"])


def test_shards_lie_on_both_nodes(lane: Lane) -> None:
    assert {shard.node.name for shard in lane.cluster.shards()} == {"node-1", "node-2"}
    assert [shard.number for shard in lane.cluster.shards()] == [0, 1, 2, 3]


def test_another_shard_count_is_refused(settings: Settings) -> None:
    with pytest.raises(Misconfigured, match="4 shards"):
        migrate(settings.model_copy(update={"shard_count": 8}))


def test_a_second_model_has_tables_of_its_own(settings: Settings, lane: Lane) -> None:
    other = Model("other-model", 16)
    assert migrate(settings, other).lacking
    assert migrate(settings, other).lacking  # until somebody has looked for them
    models.backfilled(lane.cluster.control, other)
    assert not migrate(settings, other).lacking
    with sql(settings, lane.cluster.shard(0).node.name) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'shard_00'").fetchall()
    assert {name for (name,) in rows} >= {"vectors_hash", "vectors_other_model_e6f0fa96"} or any(
        name.startswith("vectors_other_model") for (name,) in rows
    )
    with pytest.raises(Misconfigured, match="16"):
        migrate(settings, Model("other-model", 32))


def test_a_node_that_is_not_set_is_named(settings: Settings) -> None:
    only = settings.model_copy(update={"nodes": {"node-1": settings.nodes["node-1"]}})
    with pytest.raises(Misconfigured, match="node-2"):
        migrate(only)


@pytest.mark.parametrize("table", TABLES)
def test_every_query_fits_the_schema(table: str, lane: Lane, settings: Settings) -> None:
    """PREPARE finds a column, a table or a type that is not there."""
    shard = lane.cluster.shard(0)
    recall = queries.load("recall")
    jobs, memories = queries.load("jobs"), queries.load("memories")
    with sql(settings, shard.node.name) as connection, sql(settings) as control:
        for name, query in queries.load(table).items():
            if f"{table}.{name}" in PARTS or table == "migrations":
                continue
            text = query.render(
                similarity=recall["filtered_similarity"].text,
                near=recall["near_of_many"].text,
                matches=recall["every_match"].text,
                lexemes=recall["lexemes"].text,
                share=recall["share"].text,
                rarity=recall["rarity"].text,
                of_one=recall["of_one"].text,
                whose="chosen.number",
                with_memories=recall["with_memories"].text,
                matching=queries.load("forget")["matching"].text,
                columns=memories["columns"].text,
                holds=recall["holds"].text,
                visible=recall["visible"].text,
                alive=memories["alive"].text,
                beyond="<",
                order="DESC",
                later=jobs["later"].text,
                delays=jobs["delays"].text,
                timeline=jobs["timeline"].text,
                born=BORN,
                still=STILL,
                resonance=RESONANCE,
                had=queries.load("parked")["had"].text,
                bucket=queries.load("ledger")["bucket"].text,
                shard=shard.schema,
                schema=shard.schema,
                vectors=lane.table,
                table="ids",
                index="some_index",
                quoted_shard=f"'{shard.schema}'",
                agent="1",
                upto="1",
                m="16",
                ef_construction="64",
            )
            if utility(text):
                continue
            prepare(control if b"control." in text else connection, text)


def prepare(connection: "psycopg.Connection[tuple[Any, ...]]", statement: bytes) -> None:
    """Let Postgres look for what a statement names; it fails where something is not there."""
    converted = PostgresQuery(Transformer(connection))
    converted.convert(statement, Anything())
    connection.execute(b"PREPARE p AS " + converted.query)
    connection.execute("DEALLOCATE p")


def utility(statement: bytes) -> bool:
    """Whether it cannot be prepared; other tests run these."""
    heads = (b"ANALYZE", b"VACUUM", b"DROP SCHEMA", b"GRANT", b"REVOKE", b"CREATE ROLE")
    return b"CONCURRENTLY" in statement or statement.startswith(heads)


class Anything(dict[str, object]):
    """Parameters by whatever name."""

    def __missing__(self, key: str) -> object:
        return None


def test_every_query_says_what_it_is_for() -> None:
    for table in TABLES:
        for query in queries.load(table).values():
            assert query.purpose.endswith("."), query.name


@pytest.mark.parametrize("folder", ["control", "shard", "model"])
def test_migrations_are_numbered_without_gaps(folder: str) -> None:
    names = sorted(path.name for path in (files("memlane.storage") / "migrations" / folder).iterdir())
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_filters_have_a_parameter_each() -> None:
    from memlane.contract import Filters

    assert set(filter_params(Filters())) == set(Filters.model_fields)


def test_a_fresh_cluster_for_each_test(make_settings: MakeSettings) -> None:
    first, second = make_settings(), make_settings()
    assert first.nodes != second.nodes


def test_what_older_processes_do_not_survive_waits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step after them waits when the schema is in use, and what comes after it waits as well."""
    more = [Migration("9001_pre_more", "ALTER TABLE {shard}.meta ADD COLUMN more int"), POST, LATER]
    monkeypatch.setattr(migrator, "migrations", lambda kind: migrations(kind) + (more if kind == "shard" else []))
    first = migrate(settings)
    assert first.applied == [f"shard_0{n}: shard 9001_pre_more" for n in first_to_last(settings)]
    assert first.waiting == [f"shard_0{n}: shard 9002_post_less" for n in first_to_last(settings)]
    assert migrate(settings).applied == []
    second = migrate(settings, post=True)
    assert len(second.applied) == 2 * 4
    assert second.waiting == []


POST = Migration("9002_post_less", "ALTER TABLE {shard}.meta DROP COLUMN more")
LATER = Migration("9003_pre_again", "ALTER TABLE {shard}.meta ADD COLUMN again int")


def first_to_last(settings: Settings) -> list[int]:
    """The shards in the order in which they are migrated: node by node."""
    with sql(settings) as control:
        rows = control.execute("SELECT shard FROM control.shards ORDER BY node, shard").fetchall()
    return [shard for (shard,) in rows]


def test_a_new_schema_waits_for_nobody(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
    monkeypatch.setattr(
        migrator,
        "migrations",
        lambda kind: migrations(kind) + ([Migration("9001_post_x", "SELECT 1")] if kind == "control" else []),
    )
    done = migrate(Settings(nodes={"a": postgres.uri("fresh")}, shard_count=1, embedder="hash"))
    assert "control: control 9001_post_x" in done.applied
    assert done.waiting == []


def test_a_table_in_use_is_waited_for_briefly(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that waited for a lock would hold up everybody who comes after it."""
    monkeypatch.setattr(migrator, "_LOCK_TIMEOUT_S", 1)
    more = [Migration("9001_pre_more", "ALTER TABLE {shard}.meta ADD COLUMN more int")]
    monkeypatch.setattr(migrator, "migrations", lambda kind: migrations(kind) + (more if kind == "shard" else []))
    with sql(settings, "node-1") as one, sql(settings, "node-2") as two, one.transaction(), two.transaction():
        for node in (one, two):
            (schema,) = node.execute("SELECT min(nspname) FROM pg_namespace WHERE nspname ~ '^shard'").fetchone() or ()
            node.execute(f"SELECT * FROM {schema}.meta".encode())
        with pytest.raises(Unavailable, match="55P03"):
            migrate(settings)
    assert len(migrate(settings).applied) == 4
