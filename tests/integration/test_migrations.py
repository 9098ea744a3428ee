"""Schemas: migrated once, from any number of processes, and every named query fits them."""

from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import psycopg
import pytest
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from memlane.config.settings import Settings
from memlane.embedded.postgres import Postgres
from memlane.errors import Misconfigured
from memlane.storage import models, queries
from memlane.storage.memories import filter_params
from memlane.storage.migrator import migrate
from memlane.storage.models import Model
from memlane.tasks.embedders import model_of
from memlane.tasks.lane import Lane
from tests.support import MakeSettings, sql

PARTS = {"recall.holds", "recall.every_similarity", "recall.filtered_similarity", "jobs.later"}
PARTS |= {"recall.indexed_similarity", "recall.no_similarity"}
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
    assert len([line for migrated in done for line in migrated.applied]) == 2 + 4 * 2
    assert len({line for migrated in done for line in migrated.applied}) == 2 + 4 * 2


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
    jobs = queries.load("jobs")
    with sql(settings, shard.node.name) as connection, sql(settings) as control:
        for name, query in queries.load(table).items():
            if f"{table}.{name}" in PARTS or table == "migrations":
                continue
            text = query.render(
                similarity=recall["filtered_similarity"].text,
                holds=recall["holds"].text,
                later=jobs["later"].text,
                shard=shard.schema,
                vectors=lane.table,
                table="ids",
                index="some_index",
                quoted_shard=f"'{shard.schema}'",
                agent="1",
                upto="1",
            )
            if b"CONCURRENTLY" in text or text.startswith(b"ANALYZE"):
                continue  # utility statements cannot be prepared; test_optimize runs them
            if text.startswith((b"GRANT", b"REVOKE", b"CREATE ROLE")):
                continue  # nor these; every migration runs them
            here = control if b"control." in text else connection
            converted = PostgresQuery(Transformer(here))
            converted.convert(text, _Anything())
            here.execute(b"PREPARE p AS " + converted.query)
            here.execute("DEALLOCATE p")


class _Anything(dict[str, object]):
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
