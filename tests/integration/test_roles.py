"""Roles: the gateway and the workers can do their work with their rights, and nothing beside it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any, TypeAlias
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from memlane.beat.sweep import Sweep
from memlane.config.settings import Settings
from memlane.contract import Event
from memlane.contract.requests import EmbeddingsRequest
from memlane.embedded.ports import free_port
from memlane.embedded.postgres import Postgres
from memlane.embedded.process import spawn
from memlane.errors import Misconfigured
from memlane.storage import jobs, leases, models, strays, tenants, ticks
from memlane.storage.cluster import Shard
from memlane.storage.connections import UNHURRIED
from memlane.storage.jobs import Kind, Terms
from memlane.storage.migrator import migrate
from memlane.storage.models import Model
from memlane.storage.roles import GATEWAY, ROLES, WORKER
from memlane.tasks import batch_embed, forget, optimize, producers
from memlane.tasks.embedders import model_of
from memlane.tasks.lane import Lane
from memlane.workers import duties
from tests.support import (
    ROLE_PASSWORD,
    accepted,
    as_role,
    count_rows,
    drain_all,
    item,
    ledger_of,
    remembered,
    sql,
)

MakeLane = Callable[[Settings], Lane]
Session: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

ROOT = Path(__file__).parents[2]

WORK = (Kind.REMEMBER, Kind.EMBED, Kind.TEXT_EMBED, Kind.FORGET)
"""All but upkeep, which goes by the owner's rights."""


@pytest.fixture
def worker(settings: Settings, make_lane: MakeLane) -> Lane:
    """A lane with the workers' rights."""
    return make_lane(as_role(settings, WORKER))


@contextmanager
def session(settings: Settings, role: str) -> Iterator[Session]:
    """A session of a role on the node that holds control and some shards."""
    with sql(as_role(settings, role)) as connection:
        yield connection


def test_workers_do_their_work(worker: Lane, settings: Settings, make_lane: MakeLane) -> None:
    """Accepting too: that is what a producer's message asks of a worker. The gateway's work is in tests/contract."""
    first, second = remembered(worker, item("green tea", key="a"), item("black tea", thread="t"))
    assert forget.forget_memory(worker, "acme", "ada", first.id)
    accepted(worker, item("of bob", agent="bob"))
    assert forget.forget_agent(worker, "acme", "bob")
    for number, texts in batch_embed.place(worker, "acme", EmbeddingsRequest(texts=("a question",))).items():
        assert batch_embed.on_shard(worker, "acme", EmbeddingsRequest(texts=("a question",)), number, texts) == 1
    drain_all(worker, *WORK)
    assert count_rows(settings, worker.cluster, "jobs") == count_rows(settings, worker.cluster, "leases") == 0
    assert count_rows(settings, worker.cluster, "memories", f"id = '{second.id}'") == 1
    assert count_rows(settings, worker.cluster, "embedding_cache") == 2
    assert ledger_of(make_lane(as_role(settings, GATEWAY)).cluster, "acme").balanced


def test_producers_messages_are_taken_in(worker: Lane, settings: Settings) -> None:
    message = {"tenant": "acme", "agent": "ada", "content": "tea", "key": "k"}
    producers.deliver(worker, "memory.remember", message, "m1")
    producers.deliver(worker, "memory.remember", {**message, "content": "coffee"}, "m2")
    producers.deliver(worker, "memory.remember", {"tenant": "acme", "nonsense": 1}, "m3")
    producers.deliver(worker, "memory.batch_embed", {"tenant": "acme", "agent": "ada"}, "m4")
    producers.deliver(worker, "memory.optimize", {"tenant": "acme", "agent": "ada"}, "m5")
    assert count_rows(settings, worker.cluster, "strays") == 2
    drain_all(worker, *WORK)
    assert count_rows(settings, worker.cluster, "memories", "content = 'tea'") == 1
    producers.deliver(worker, "memory.forget", {"tenant": "acme", "agent": "ada", "key": "k"}, "m6")
    producers.deliver(worker, "memory.forget", {"tenant": "acme", "agent": "ada"}, "m7")
    drain_all(worker, *WORK)
    assert count_rows(settings, worker.cluster, "memories") == 0


def test_the_sweep_takes_up_what_is_left(worker: Lane, settings: Settings) -> None:
    shard = worker.cluster.shard(worker.cluster.shard_of("acme", "ada"))
    accepted(worker, item())
    for _ in range(worker.settings.deaths_alone + 8):
        jobs.claim(shard, Kind.REMEMBER, Terms("dead", 0.001, 1)) or jobs.claim_suspects(
            shard, Kind.REMEMBER, Terms("dead", 0.001, 1)
        )
        sleep(0.005)
        Sweep(worker, lambda _kind, _shard: True)()
    assert count_rows(settings, worker.cluster, "jobs", "parked_at IS NOT NULL") == 1
    message = {"tenant": "acme", "agent": "bob", "content": "tea"}
    strays.keep(worker.cluster, "memory.remember", "acme", "down", message, worker.cluster.shard_of("acme", "bob"))
    Sweep(worker, lambda _kind, _shard: True)()
    assert count_rows(settings, worker.cluster, "strays") == 0
    claim = jobs.claim(shard, Kind.REMEMBER, Terms("late", 30.0, 10))
    if claim is not None:
        assert leases.renew(shard, claim.token, 30.0)
        leases.fail(shard, claim.token, "broken")
        leases.not_dead(shard, claim.token, claim.numbers)


@contextmanager
def stalled(settings: Settings, application: str = "memlane stalled") -> Iterator[Session]:
    """A session that stays inside a transaction; it may be ended meanwhile."""
    with sql(settings) as connection:
        connection.execute("SELECT set_config('application_name', %s, false)", (application,))
        connection.execute("BEGIN")
        connection.execute("SELECT 1")
        sleep(0.1)
        yield connection
        connection.close()


def test_the_sweep_ends_a_session_of_another_role(worker: Lane, settings: Settings) -> None:
    with stalled(as_role(settings, GATEWAY)) as connection:
        assert jobs.end_stalled_sessions(_first(worker), 0.05) == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_the_sweep_leaves_alone_what_it_may_not_end(worker: Lane, settings: Settings) -> None:
    """A superuser's session cannot be ended by anybody else; trying would break the sweep off."""
    with stalled(settings) as supers, stalled(as_role(settings, GATEWAY), UNHURRIED) as unhurried:
        assert jobs.end_stalled_sessions(_first(worker), 0.05) == 0
        for connection in (supers, unhurried):
            assert connection.execute("SELECT 1").fetchone() == (1,)


def _first(lane: Lane) -> Shard:
    """A shard on the first node."""
    return next(shard for shard in lane.cluster.shards() if shard.node.name == "node-1")


def test_statistics_are_brought_up_to_date_by_the_owner(lane: Lane, settings: Settings) -> None:
    """Postgres only warns when it leaves a table out: what counts is that it was analyzed."""
    lane.settings = settings.model_copy(update={"vacuum_rows": 5})
    shard = _first(lane)
    with sql(settings) as connection:
        connection.execute(
            f"INSERT INTO {shard.schema}.ledger SELECT 'acme', 'stored', 1 FROM generate_series(1, 50)".encode()
        )
    duties.run_once(lane, "somebody", "vacuum")
    assert ticks.last(lane.cluster.control)[0].outcome == "done"
    with sql(settings) as connection:
        (row,) = connection.execute(
            "SELECT vacuum_count, analyze_count FROM pg_stat_user_tables WHERE schemaname = %s AND relname = 'ledger'",
            (shard.schema,),
        ).fetchall()
    assert row == (1, 1)


def test_an_index_is_built_by_the_owner_alone(worker: Lane, lane: Lane, settings: Settings) -> None:
    few = settings.model_copy(update={"promote_at": 2})
    worker.settings = lane.settings = few
    remembered(worker, item("one"), item("two"), item("three"))
    shard = worker.cluster.shard(worker.cluster.shard_of("acme", "ada"))
    with pytest.raises(Misconfigured, match="a right is missing"):
        optimize.optimize_shard(worker, shard, None)
    assert optimize.optimize_shard(lane, lane.cluster.shard(shard.number), None) == 1


NOBODY_MAY = (
    "CREATE TABLE control.t (a int)",
    "CREATE TABLE {shard}.t (a int)",
    "CREATE TABLE public.t (a int)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "CREATE FUNCTION {shard}.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE INDEX ON {shard}.memories (content)",
    "DROP TABLE {shard}.memories",
    "DROP SCHEMA {shard} CASCADE",
    "DROP FUNCTION {shard}.fence(bigint)",
    "ALTER TABLE {shard}.memories ADD COLUMN a int",
    "ALTER TABLE control.api_keys DISABLE TRIGGER ALL",
    "ALTER ROLE memlane_gateway SUPERUSER",
    "TRUNCATE {shard}.jobs",
    "GRANT SELECT ON {shard}.migrations TO PUBLIC",
    "SELECT * FROM pg_authid",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT * FROM elsewhere.secret",
    "SELECT * FROM {shard}.migrations",
    "SELECT setval('{shard}.numbers', 1)",
    "UPDATE {shard}.meta SET epoch = 7",
    "INSERT INTO {shard}.meta (shard, shard_count, hash_version) VALUES (1, 1, 1)",
    "UPDATE {shard}.memories SET agent = 1",
    "UPDATE {shard}.memories SET id = gen_random_uuid()",
    "UPDATE {shard}.versions SET content = 'x'",
    "UPDATE {shard}.ids SET content_hash = ''",
    "DELETE FROM {shard}.ids",
    "UPDATE {shard}.agents SET tenant = 'rival'",
    "DELETE FROM {shard}.agents",
    "UPDATE {shard}.jobs SET tenant = 'rival'",
    "UPDATE {shard}.ledger SET count = 0",
    "DELETE FROM {shard}.ledger",
    "UPDATE {shard}.vectors_hash SET memory = 1",
    "INSERT INTO {shard}.promotions VALUES (1, 'x', 1, 'x')",
    "UPDATE control.shards SET node = 'x'",
    "UPDATE control.cluster SET shard_count = 1",
    "INSERT INTO control.models (model, dims) VALUES ('x', 1)",
    "DELETE FROM control.tenants",
    "DELETE FROM control.api_keys",
    "UPDATE control.api_keys SET key_hash = ''",
    "UPDATE control.api_keys SET tenant = NULL",
)

REFUSED = {
    GATEWAY: (
        "SELECT * FROM {shard}.leases",
        "INSERT INTO {shard}.leases (token, kind, holder, expires_at) VALUES (gen_random_uuid(), 'x', 'x', now())",
        "DELETE FROM {shard}.leases",
        "INSERT INTO {shard}.memories SELECT * FROM {shard}.memories",
        "INSERT INTO {shard}.vectors_hash (agent, memory, embedding) VALUES (1, 1, NULL)",
        "UPDATE {shard}.embedding_cache SET embedding = '[1]'",
        "UPDATE {shard}.jobs SET died_in = NULL",
        "SELECT payload FROM {shard}.strays",
        "INSERT INTO {shard}.strays (id, task, reason, payload) VALUES (gen_random_uuid(), 'x', 'x', 'x')",
        "UPDATE {shard}.strays SET payload = 'x'",
        "INSERT INTO control.ticks (name, slot, holder) VALUES ('x', now(), 'x')",
        "UPDATE control.models SET is_current = true",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'memlane_worker'",
    ),
    WORKER: (
        "SELECT * FROM control.api_keys",
        "SELECT prefix FROM control.api_keys",
        "INSERT INTO control.api_keys (prefix, key_hash) VALUES ('x', '')",
        "UPDATE control.api_keys SET revoked_at = NULL",
        "SELECT * FROM control.tenants",
        "INSERT INTO control.tenants (tenant) VALUES ('x')",
        "SELECT * FROM control.models",
        "UPDATE control.models SET backfilled_at = now()",
        "SELECT * FROM {shard}.ledger",
        "UPDATE {shard}.memories SET content = 'x'",
        "UPDATE {shard}.jobs SET payload = '{{}}'",
        "INSERT INTO {shard}.versions VALUES (1, 1, 1, 'x')",
        "UPDATE {shard}.promotions SET vectors = 0",
        "INSERT INTO {shard}.memory_stats VALUES (1, 1, 1, now())",
        "UPDATE {shard}.memory_stats SET access_count = 0",
    ),
}


@pytest.mark.parametrize("role", ROLES)
def test_what_is_refused(settings: Settings, lane: Lane, role: str) -> None:
    remembered(lane, *(item("tea", agent=f"agent-{n}") for n in range(20)))
    schema = _first(lane).schema
    with sql(settings) as connection:
        connection.execute("CREATE SCHEMA elsewhere")
        connection.execute("CREATE TABLE elsewhere.secret (a int)")
    with session(settings, WORKER) as other, session(settings, role) as connection:
        other.execute("SELECT 1")
        allowed = [text for text in (*NOBODY_MAY, *REFUSED[role]) if not _refused(connection, text, schema)]
    assert allowed == []


def _refused(connection: Session, text: str, schema: str) -> bool:
    """Whether a statement is refused for want of a right, and for nothing else."""
    try:
        connection.execute(text.format(shard=schema).encode())
    except errors.InsufficientPrivilege:
        return True
    return False


def test_a_stranger_may_not_even_ask_the_fence(settings: Settings, lane: Lane) -> None:
    schema = _first(lane).schema
    name = f"stranger_{uuid4().hex[:8]}"
    with sql(settings) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{ROLE_PASSWORD}'".encode())
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {name}".encode())
        try:
            with session(settings, name) as asking, pytest.raises(errors.InsufficientPrivilege, match="function"):
                asking.execute(f"SELECT {schema}.fence(1)".encode())
        finally:
            connection.execute(f"DROP OWNED BY {name}".encode())
            connection.execute(f"DROP ROLE {name}".encode())


def test_a_right_too_many_is_taken_back(settings: Settings, lane: Lane) -> None:
    schema = _first(lane).schema
    with sql(settings) as connection:
        connection.execute(f"GRANT SELECT (expires_at), DELETE ON {schema}.leases TO {GATEWAY}".encode())
    migrate(settings, model_of(settings))
    with session(settings, GATEWAY) as connection:
        for text in ("SELECT expires_at FROM {shard}.leases", "DELETE FROM {shard}.leases"):
            assert _refused(connection, text, schema)


def test_a_new_models_tables_are_granted_in_the_same_run(settings: Settings, make_lane: MakeLane) -> None:
    other = Model("other", 384)
    migrate(settings, other)
    worker = make_lane(as_role(settings, WORKER))
    worker.model, worker.table = other, "vectors_other"
    remembered(worker, item("tea"))
    assert count_rows(settings, worker.cluster, "vectors_other") == 1
    gateway = make_lane(as_role(settings, GATEWAY))
    gateway.table = worker.table
    models.backfilled(gateway.cluster.control, other)
    assert sum(batch_embed.open_missing(gateway, number, None) for number in range(4)) == 0


# --- who migrates ---------------------------------------------------------------------------


@pytest.fixture
def bare(server_folder: Path) -> Iterator[Postgres]:
    """A server that has never seen memlane: roles are a server's, not a database's."""
    server = Postgres("bare", server_folder / f"bare-{uuid4().hex[:8]}", free_port(), "test")
    server.prepare()
    process = spawn(server.command(), server.folder / "postgres.log")
    server.wait(process)
    yield server
    process.send_signal(server.command().end_signal)
    process.wait(30)


def owned(server: Postgres, how: str) -> Settings:
    """Settings of a cluster in a database of somebody who is no superuser, after a DBA has made the extension."""
    with psycopg.connect(server.uri("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE memlane_migrator LOGIN PASSWORD '{ROLE_PASSWORD}' {how}".encode())
        connection.execute("CREATE DATABASE owned OWNER memlane_migrator")
    with psycopg.connect(server.uri("owned"), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    uri = make_conninfo(server.uri("owned"), user="memlane_migrator", password=ROLE_PASSWORD)
    return Settings(nodes={"node-1": uri}, shard_count=2, embedder="hash", profile="test")


def run_advice(server: Postgres, line: str) -> None:
    """Run what the line tells a DBA to run, as it stands there."""
    with psycopg.connect(server.uri("owned"), autocommit=True) as connection:
        connection.execute(line.partition(": ")[2].encode())


def works(server: Postgres, settings: Settings, make_lane: MakeLane) -> None:
    """Accept as the gateway, finish as a worker; the roles may log in from now on."""
    with psycopg.connect(server.uri("postgres"), autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"ALTER ROLE {role} LOGIN PASSWORD '{ROLE_PASSWORD}'".encode())
    gateway, worker = (make_lane(as_role(settings, role)) for role in (GATEWAY, WORKER))
    tenants.create_tenant(gateway.cluster.control, "acme")
    accepted(gateway, item("tea"))
    drain_all(worker, *WORK)
    assert ledger_of(gateway.cluster, "acme").events[Event.STORED] == 1


def test_a_migrator_who_may_not_create_roles_says_what_to_run_and_goes_on(bare: Postgres, make_lane: MakeLane) -> None:
    settings = owned(bare, "")
    done = migrate(settings, model_of(settings))
    assert done.applied
    (line,) = done.advice
    assert "node node-1" in line
    assert "\n" not in line
    run_advice(bare, line)
    again = migrate(settings, model_of(settings))
    assert (again.applied, again.advice) == ([], [])
    works(bare, settings, make_lane)


def test_a_migrator_who_may_create_roles_does(bare: Postgres, make_lane: MakeLane) -> None:
    settings = owned(bare, "CREATEROLE")
    (line,) = migrate(settings, model_of(settings)).advice
    assert "CREATE ROLE" not in line
    works(bare, settings, make_lane)
    shard = make_lane(as_role(settings, WORKER)).cluster.shard(0)
    with stalled(as_role(settings, GATEWAY)):
        assert jobs.end_stalled_sessions(shard, 0.05) == 0  # it sees its own sessions only
        run_advice(bare, line)
        assert jobs.end_stalled_sessions(shard, 0.05) == 1
    assert migrate(settings, model_of(settings)).advice == []


def test_what_the_docs_tell_an_operator_to_run_is_enough(bare: Postgres, make_lane: MakeLane) -> None:
    """As it stands there, also with login roles of the operator's own."""
    page = (ROOT / "docs" / "howto" / "security.md").read_text()
    (block,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    on_server, on_database = block.replace("'...'", f"'{ROLE_PASSWORD}'").split("\\connect memlane\n")
    with psycopg.connect(bare.uri("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE memlane")  # which an embedded server comes with
        for statement in on_server.split(";\n"):
            connection.execute(statement.encode())
        for name, role in (("chat_gateway", GATEWAY), ("chat_migrator", "memlane_migrator")):
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{ROLE_PASSWORD}' IN ROLE {role}".encode())
        connection.execute("ALTER ROLE chat_migrator SET role = memlane_migrator")
    with psycopg.connect(bare.uri("memlane"), autocommit=True) as connection:
        connection.execute(on_database.encode())
    settings = as_role(
        Settings(nodes={"node-1": bare.uri("memlane")}, shard_count=2, embedder="hash", profile="test"), "chat_migrator"
    )
    assert migrate(settings, model_of(settings)).advice == []
    works(bare, settings, make_lane)
    accepted(make_lane(as_role(settings, "chat_gateway")), item("by a role of their own"))
    with session(settings, "memlane_migrator") as connection:
        owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname ~ '^shard_'")
        assert owners.fetchall() == [("memlane_migrator",)]
    with session(settings, GATEWAY) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute("CREATE TEMPORARY TABLE t (a int)")
