"""The count finds what is wrong: a count that finds nothing proves nothing unless it would have found something."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from memlane.config.settings import Settings
from memlane.storage.cluster import Shard
from memlane.tasks.embedders.hash import HashEmbedder
from memlane.tasks.lane import Lane
from tests.faults.count import Counted, Servers, count
from tests.faults.notes import Fate, Note, Notes
from tests.support import item, remembered, sql

pytestmark = pytest.mark.faults

ROW = "agent, number + 1000, id, kind, content, importance, tags, metadata, occurred_at, created_at, words"
COPY = ROW.replace(" + 1000", "")


@pytest.fixture
def notes(lane: Lane) -> Notes:
    """Three memories of an agent, stored and noted."""
    items = [item(f"tea number {number}") for number in range(3)]
    noted = Notes()
    for receipt, one in zip(remembered(lane, *items), items, strict=True):
        noted.about("ada", receipt.id, one.content).answered()
    return noted


def counted(settings: Settings, lane: Lane, notes: Notes) -> Counted:
    nodes = {name: uri.get_secret_value() for name, uri in settings.nodes.items()}
    embedder = HashEmbedder(lane.model)
    return count(Servers(nodes, None, lane.table, lambda text: embedder.embed([text]).vectors[0]), notes, "ada")


def test_nothing_is_found_where_nothing_is_wrong(settings: Settings, lane: Lane, notes: Notes) -> None:
    found = counted(settings, lane, notes)
    assert found.wrong == []
    assert found.memories == 3


WRONG = {
    "DELETE FROM {s}.memories WHERE content = 'tea number 1'": "lost: ('ada'",
    "DELETE FROM {s}.ids": "lost: ('ada'",
    "DELETE FROM {s}.{v} WHERE number = 1": "lost: ('ada'",
    "UPDATE {s}.memories SET content = 'coffee' WHERE content = 'tea number 1'": "lost: ('ada'",
    "UPDATE {s}.{v} SET embedding = (SELECT embedding FROM {s}.{v} WHERE number = 1)": "lost: ('ada'",
    "UPDATE {s}.memories SET version = 2 WHERE content = 'tea number 1'": "lost: ('ada'",
    "UPDATE {s}.ids SET state = 'stored'": "lost: ('ada'",
    "INSERT INTO {s}.memories ({copy}) SELECT {row} FROM {s}.memories": "doubled: ('ada'",
    "INSERT INTO {s}.{v} (agent, memory, embedding) SELECT agent, 99, embedding FROM {s}.{v} LIMIT 1": "doubled: ",
    """INSERT INTO {s}.ids (agent, id, number, content_hash)
       SELECT agent, gen_random_uuid(), 99, '' FROM {s}.ids LIMIT 1""": "doubled: nobody",
    "INSERT INTO {s}.ledger (tenant, event, count) VALUES ('acme', 'accepted', 1)": "unbalanced: ",
    "INSERT INTO {s}.ledger (tenant, event, count) VALUES ('acme', 'forgotten', 1)": "unbalanced: ",
    "UPDATE {s}.agents SET memories = memories + 1": "unbalanced: ",
    "UPDATE {s}.agents SET words = words - 1": "unbalanced: ",
    """INSERT INTO {s}.jobs (number, kind, tenant, agent, id, payload, parked_at)
       SELECT number, 'embed', 'acme', agent, id, '{{}}', now() FROM {s}.ids""": "parked: ('ada'",
    """INSERT INTO {s}.jobs (number, kind, tenant, id, payload)
       VALUES (99, 'text_embed', 'acme', gen_random_uuid(), '{{}}')""": "1 jobs still open",
    """INSERT INTO {s}.leases (token, kind, holder, expires_at)
       VALUES (gen_random_uuid(), 'embed', 'x', now())""": "1 leases still held",
}
"""What somebody could do to a shard, and how the count begins to say so."""


def test_what_is_wrong_is_found(settings: Settings, lane: Lane, shard: Shard, notes: Notes) -> None:
    for statement, kind in WRONG.items():
        with sql(settings, shard.node.name) as connection, restored(connection, shard.schema, lane.table):
            connection.execute(statement.format(s=shard.schema, v=lane.table, row=ROW, copy=COPY).encode())
            found = counted(settings, lane, notes).wrong
        assert any(line.startswith(kind) for line in found), (statement, found)
    assert counted(settings, lane, notes).wrong == []


@contextmanager
def restored(connection: "psycopg.Connection[Any]", schema: str, vectors: str) -> Iterator[None]:
    """Bring the rows of a shard back when the block ends."""
    tables = ("ids", "memories", vectors, "ledger", "agents", "jobs", "leases")
    for table in tables:
        connection.execute(f"CREATE TEMPORARY TABLE kept_{table} AS TABLE {schema}.{table}".encode())
    yield
    for table in tables:
        connection.execute(f"DELETE FROM {schema}.{table}".encode())
        insert = f"INSERT INTO {schema}.{table} OVERRIDING SYSTEM VALUE TABLE kept_{table}"
        connection.execute(insert.encode())


@pytest.mark.parametrize("harm", ["settled = 5", "reserved = 5", "limit_micro = 0, settled = 0"])
def test_a_budget_that_does_not_add_up_is_found(settings: Settings, lane: Lane, notes: Notes, harm: str) -> None:
    with sql(settings) as control:
        control.execute("UPDATE control.prices SET micro_per_million = 1000 WHERE model = 'hash'")
        control.execute("INSERT INTO control.tenants (tenant) VALUES ('acme')")
        control.execute("SELECT control.set_budget('acme', '', 'month', 1000, 'defer')")
        remembered(lane, item("tea is paid for", agent="bob"))
        assert not [line for line in counted(settings, lane, notes).wrong if "budget" in line]
        control.execute(f"UPDATE control.spending SET {harm}".encode())
    assert any(line.startswith("unbalanced: node-1: budget") for line in counted(settings, lane, notes).wrong)


def test_what_was_forgotten_and_is_there_is_found(settings: Settings, lane: Lane, notes: Notes) -> None:
    for note in notes:
        note.forgotten(sure=True)
    assert len(counted(settings, lane, notes).resurrected) == 2 * len(notes)


def test_what_may_be_there_is_there_or_is_not(settings: Settings, lane: Lane, notes: Notes) -> None:
    first: Note = next(iter(notes))
    first.fate = Fate.UNKNOWN
    notes.about("ada", item().identity("acme"), "never arrived")
    assert counted(settings, lane, notes).wrong == []


def test_what_is_parked_has_to_be_deadly_and_the_other_way_round(settings: Settings, lane: Lane, notes: Notes) -> None:
    next(iter(notes)).deadly = True
    assert len(counted(settings, lane, notes).parked) == 1
