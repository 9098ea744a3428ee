"""A memory after it was stored: updated, superseded, pinned, expired, forgotten by filter; of both clients alike."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from memlane import State
from memlane.client.front import Front
from memlane.contract import Embedding, Event
from memlane.errors import Conflict, InvalidInput, NotFound
from memlane.tasks.lane import Lane
from memlane.testing import InMemoryClient
from tests.support import eventually

HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


def contents(client: Front, agent: str = "ada", **filters: Any) -> list[str]:
    """What an agent's list holds, newest first."""
    return [memory.content for memory in client.memories(agent, **filters)]


def recalled(client: Front, query: str, **filters: Any) -> set[str]:
    return {hit.memory.content for hit in client.recall("ada", query, **filters)}


def test_new_content_keeps_the_id_and_its_history(client: Front) -> None:
    receipt = client.remember("ada", "she drinks green tea", key="drink", speaker="Ben").wait("searchable")
    changed = client.update("ada", receipt.id, content="she drinks coffee")
    assert (changed.id, changed.content, changed.version) == (receipt.id, "she drinks coffee", 2)
    assert changed.changed_at is not None
    client.receipt("ada", receipt.id).wait("searchable", timeout=10)
    assert recalled(client, "coffee") == {"she drinks coffee"}
    assert not any(hit.parts.text for hit in client.recall("ada", "green"))
    client.update("ada", receipt.id, content="she drinks water")
    history = client.history("ada", receipt.id)
    assert [(v.version, v.content) for v in history] == [(2, "she drinks coffee"), (1, "she drinks green tea")]
    assert history[0].replaced_at >= history[1].replaced_at
    assert contents(client) == ["she drinks water"]


def test_a_late_retry_of_the_first_content_is_a_duplicate(client: Front) -> None:
    receipt = client.remember("ada", "tea", key="k").wait("stored")
    client.update("ada", receipt.id, content="coffee")
    assert client.remember("ada", "tea", key="k").state is State.DUPLICATE
    with pytest.raises(Conflict):
        client.remember("ada", "coffee", key="k")
    assert contents(client) == ["coffee"]


def test_fields_that_are_not_given_stay(client: Front) -> None:
    fields: dict[str, Any] = {"kind": "turn", "importance": 0.25, "tags": ["a"], "metadata": {"n": 1}, "thread": "t"}
    receipt = client.remember("ada", "tea", **fields, speaker="Ben").wait("searchable")
    before = client.get("ada", receipt.id)
    changed = client.update("ada", receipt.id, tags=["b", "c"], metadata={"m": [True]})
    assert (changed.tags, changed.metadata, changed.version) == (("b", "c"), {"m": [True]}, 1)
    for name in ("id", "content", "kind", "importance", "occurred_at", "created_at", "thread", "speaker"):
        assert getattr(changed, name) == getattr(before, name), name
    assert client.history("ada", receipt.id) in ([], ())
    assert client.receipt("ada", receipt.id).state is State.SEARCHABLE
    assert contents(client, tags=["c"]) == ["tea"]


def test_every_field_can_be_changed(client: Front) -> None:
    older = client.remember("ada", "older").wait("stored")
    receipt = client.remember("ada", "tea").wait("stored")
    given: dict[str, Any] = {
        "content": "coffee",
        "kind": "event",
        "importance": 0.75,
        "tags": ("x",),
        "metadata": {"a": None},
        "occurred_at": datetime(2020, 1, 2, 3, 4, tzinfo=UTC),
        "pinned": True,
        "expires_at": now().replace(microsecond=0) + HOUR,
        "supersedes": older.id,
    }
    changed = client.update("ada", receipt.id, **given)
    assert {name: getattr(changed, name) for name in given} == given
    assert client.get("ada", receipt.id) == changed
    cleared = client.update("ada", receipt.id, expires_at=None, supersedes=None, pinned=False)
    assert (cleared.expires_at, cleared.supersedes, cleared.pinned) == (None, None, False)


def test_the_same_update_twice_is_one(client: Front) -> None:
    receipt = client.remember("ada", "tea", importance=0.8).wait("stored")
    first = client.update("ada", receipt.id, content="coffee", importance=0.3, tags=["a"])
    assert client.update("ada", receipt.id, content="coffee", importance=0.3, tags=["a"]) == first
    assert len(client.history("ada", receipt.id)) == 1
    assert client.ledger().events[Event.UPDATED] == 1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "body"),
        ({"content": ""}, "content"),
        ({"content": None}, "body"),
        ({"importance": 2.0}, "importance"),
        ({"tags": ["x" * 65]}, "tags.0"),
        ({"pinned": "yes"}, "pinned"),
        ({"thread": "bob"}, "thread"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"supersedes": "older"}, "supersedes"),
    ],
)
def test_an_update_of_no_use(client: Front, fields: dict[str, Any], named: str) -> None:
    receipt = client.remember("ada", "tea").wait("stored")
    with pytest.raises(InvalidInput) as caught:
        client.update("ada", receipt.id, **fields)
    assert [error.field for error in caught.value.fields] == [named]
    assert contents(client) == ["tea"]


def test_an_update_of_what_is_not_there(client: Front) -> None:
    receipt = client.remember("ada", "tea").wait("stored")
    client.forget("ada", receipt.id)
    for agent, id_ in (("ada", receipt.id), ("ada", uuid4()), ("nobody", receipt.id)):
        with pytest.raises(NotFound):
            client.update(agent, id_, content="coffee")
        with pytest.raises(NotFound):
            client.history(agent, id_)


def test_the_newer_one_takes_the_place_of_the_older(client: Front) -> None:
    older = client.remember("ada", "she lives in Porto").wait("searchable")
    newer = client.remember("ada", "she lives in Lisbon", supersedes=older.id).wait("searchable")
    assert recalled(client, "where does she live?") == {"she lives in Lisbon"}
    assert contents(client) == ["she lives in Lisbon"]
    assert contents(client, include_superseded=True) == ["she lives in Lisbon", "she lives in Porto"]
    assert recalled(client, "live", include_superseded=True) == {"she lives in Lisbon", "she lives in Porto"}
    assert recalled(client, "live", kinds=["fact"]) == {"she lives in Lisbon"}
    assert client.get("ada", older.id).superseded_by == newer.id
    assert client.get("ada", newer.id).supersedes == older.id
    assert client.get("ada", newer.id).superseded_by is None


def test_without_the_newer_one_the_older_is_back(client: Front) -> None:
    older = client.remember("ada", "she lives in Porto").wait("stored")
    newer = client.remember("ada", "she lives in Lisbon", supersedes=older.id).wait("stored")
    client.forget("ada", newer.id)
    assert contents(client) == ["she lives in Porto"]
    assert client.get("ada", older.id).superseded_by is None


def test_a_link_of_a_chain_may_be_forgotten(client: Front) -> None:
    first = client.remember("ada", "one").wait("stored")
    second = client.remember("ada", "two", supersedes=first.id).wait("stored")
    third = client.remember("ada", "three", supersedes=second.id).wait("stored")
    client.forget("ada", second.id)
    assert contents(client) == ["three"]
    assert client.get("ada", third.id).supersedes == first.id


def test_nothing_supersedes_itself(client: Front) -> None:
    id_ = uuid4()
    with pytest.raises(InvalidInput):
        client.remember_many([{"agent": "ada", "content": "tea", "id": id_, "supersedes": id_}], atomic=True)
    receipt = client.remember("ada", "tea").wait("stored")
    with pytest.raises(Conflict):
        client.update("ada", receipt.id, supersedes=receipt.id)
    newer = client.remember("ada", "coffee", supersedes=receipt.id).wait("stored")
    with pytest.raises(Conflict):
        client.update("ada", receipt.id, supersedes=newer.id)
    assert contents(client) == ["coffee"]


def test_an_expired_memory_is_out_of_sight(client: Front) -> None:
    lasting = client.remember("ada", "tea at four", expires_at=now() + HOUR).wait("searchable")
    over = client.remember("ada", "tea at three", expires_at=now() - HOUR).wait("searchable")
    assert contents(client) == ["tea at four"]
    assert recalled(client, "when is tea?") == {"tea at four"}
    for call in (client.get, client.history):
        with pytest.raises(NotFound):
            call("ada", over.id)
    with pytest.raises(NotFound):
        client.update("ada", over.id, expires_at=None)
    client.update("ada", lasting.id, expires_at=now() - HOUR)
    assert contents(client) == []
    assert client.remember("ada", "tea for all", supersedes=lasting.id).wait("searchable")


def test_a_newer_one_that_has_expired_takes_no_place(client: Front) -> None:
    usual = client.remember("ada", "she works in Porto").wait("stored")
    client.remember("ada", "she is on holiday", supersedes=usual.id, expires_at=now() - HOUR).wait("stored")
    assert contents(client) == ["she works in Porto"]


def test_pinned_ones_can_be_asked_for(client: Front) -> None:
    client.remember("ada", "name is Ada", pinned=True).wait("stored")
    client.remember("ada", "said hello").wait("stored")
    assert contents(client, pinned=True) == ["name is Ada"]
    assert contents(client, pinned=False) == ["said hello"]
    assert {hit.memory.pinned for hit in client.recall("ada", "Ada hello")} == {True, False}


def test_forgetting_by_filter(client: Front) -> None:
    client.remember_many(
        [
            {"agent": "ada", "content": "one", "tags": ["draft"], "importance": 0.1},
            {"agent": "ada", "content": "two", "tags": ["draft", "kept"]},
            {"agent": "ada", "content": "three"},
            {"agent": "bob", "content": "four", "tags": ["draft"]},
        ]
    ).wait("stored")
    trial = client.forget_matching("ada", tags=["draft"], dry_run=True)
    assert (trial.matched, trial.job) == (2, None)
    assert len(contents(client)) == 3
    done = client.forget_matching("ada", tags=["draft"])
    assert done.matched == 2
    assert done.job is not None
    eventually(lambda: contents(client) == ["three"])
    assert contents(client, "bob") == ["four"]
    assert client.forget_matching("ada", tags=["draft"]).matched == 0
    client.remember("ada", "five", tags=["draft"]).wait("stored")
    assert contents(client) == ["five", "three"]
    eventually(lambda: client.ledger().balanced)


def test_forgetting_by_filter_needs_one(client: Front) -> None:
    client.remember("ada", "tea")
    with pytest.raises(InvalidInput):
        client.forget_matching("ada")
    with pytest.raises(InvalidInput):
        client.forget_matching("ada", include_superseded=True)
    with pytest.raises(NotFound):
        client.forget_matching("nobody", tags=["a"])


def test_what_was_said_before_is_forgotten_with_it(client: Front) -> None:
    receipt = client.remember("ada", "a secret").wait("stored")
    client.update("ada", receipt.id, content="nothing")
    client.forget("ada", receipt.id)
    with pytest.raises(NotFound):
        client.history("ada", receipt.id)
    eventually(lambda: client.ledger().balanced)


@pytest.mark.usefixtures("worker")
def test_a_list_with_vectors(http: httpx.Client) -> None:
    id_ = http.post("/v1/memories", json={"agent": "ada", "content": "tea"}).json()["id"]
    http.get(f"/v1/receipts/ada/{id_}?wait=searchable&timeout=10")
    (memory,) = http.get("/v1/memories?agent=ada&vectors=true").json()["memories"]
    assert memory["embedding"]["model"] == "hash"
    assert sum(part * part for part in memory["embedding"]["vector"]) == pytest.approx(1, abs=0.01)
    (memory,) = http.get("/v1/memories?agent=ada").json()["memories"]
    assert "embedding" not in memory


def test_oldest_first(client: Front) -> None:
    client.remember_many([{"agent": "ada", "content": str(n)} for n in range(5)]).wait("stored")
    assert contents(client, oldest_first=True) == ["0", "1", "2", "3", "4"]
    first = client.page("ada", limit=2, oldest_first=True)
    assert [memory.content for memory in first.memories] == ["0", "1"]
    rest = client.page("ada", limit=3, oldest_first=True, cursor=first.next)
    assert ([memory.content for memory in rest.memories], rest.next) == (["2", "3", "4"], None)


@pytest.mark.parametrize(
    "fields", [{"cursor": "x"}, {"limit": 0}, {"limit": 1001}, {"cursor": "9" * 19}, {"limit": 101, "vectors": True}]
)
def test_a_page_that_is_none(client: Front, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        client.page("ada", **fields)


def test_a_vector_that_a_caller_brings_is_used(lane: Lane, client: Front) -> None:
    """The provider is not asked; one of another model is left aside."""
    vector = [3.0] + [0.0] * (lane.model.dims - 1)
    brought = Embedding(model="hash", vector=tuple(vector))
    other = Embedding(model="other", vector=(1.0, 2.0))
    short = Embedding(model="hash", vector=(1.0, 2.0))
    client.remember("ada", "tea", speaker="Ben", embedding=brought).wait("searchable")
    client.remember("ada", "coffee", embedding=other).wait("searchable")
    client.remember("ada", "water", embedding=short).wait("searchable")
    if not isinstance(client, InMemoryClient):
        water, coffee, tea = client.memories("ada", vectors=True)
        assert tea.embedding is not None
        assert tea.embedding.vector == pytest.approx([1.0, *vector[1:]], abs=1e-3)
        for memory in (water, coffee):
            assert memory.embedding is not None
            assert memory.embedding.vector[0] < 0.9


@pytest.mark.parametrize("vector", [[], [0.0, 0.0], [float("nan")], [1.0] * 4001, "x"])
def test_a_vector_that_is_none(client: Front, vector: object) -> None:
    with pytest.raises(InvalidInput):
        client.remember_many([{"agent": "ada", "content": "tea", "embedding": {"model": "hash", "vector": vector}}])


def test_an_update_waits_for_what_is_not_stored_yet(http: httpx.Client) -> None:
    """Without a worker it is not stored; the answer says so, and that one may try again."""
    id_ = http.post("/v1/memories", json={"agent": "ada", "content": "tea"}).json()["id"]
    answer = http.patch(f"/v1/memories/ada/{id_}", json={"content": "coffee"})
    assert answer.status_code == 503
    assert "not stored yet" in answer.json()["detail"]
    assert answer.headers["retry-after"]
