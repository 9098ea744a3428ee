"""What an agent app may rely on, of the real client and of the one for its tests alike."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from memlane import Client, MemoryItem, State
from memlane.client.front import Front
from memlane.contract import Event
from memlane.errors import Conflict, InvalidInput, NeverReached, NotFound


def test_remember_wait_recall(client: Front) -> None:
    receipt = client.remember("ada", "Caroline prefers green tea", importance=0.8, tags=["preference"], key="msg-42")
    assert receipt.state is State.ACCEPTED
    assert receipt.wait("searchable", timeout=10).state is State.SEARCHABLE
    (hit,) = client.recall("ada", "what tea does she drink?", limit=5)
    assert hit.memory.content == "Caroline prefers green tea"
    assert hit.memory.key == "msg-42"
    assert hit.memory.tags == ("preference",)


def test_every_field_comes_back(client: Front) -> None:
    fields: dict[str, Any] = {
        "key": "k",
        "kind": "turn",
        "importance": 0.25,
        "tags": ["a", "b"],
        "metadata": {"n": [1, 2.5, None, {"x": True}]},
        "occurred_at": datetime(2024, 2, 29, 12, tzinfo=UTC),
        "thread": "t",
        "speaker": "Ben",
    }
    receipt = client.remember("ada", "all of it", **fields).wait("stored")
    memory = client.get("ada", receipt.id)
    assert memory.agent == "ada"
    for name, value in fields.items():
        assert getattr(memory, name) == (tuple(value) if name == "tags" else value), name


def test_again_is_a_duplicate(client: Front) -> None:
    first = client.remember("ada", "tea", key="k")
    first.wait("searchable")
    second = client.remember("ada", "tea", key="k")
    assert (second.id, second.state, second.first) == (first.id, State.DUPLICATE, State.SEARCHABLE)
    assert second.wait("searchable", timeout=5).reached is State.SEARCHABLE


def test_a_duplicate_can_be_waited_for(client: Front) -> None:
    client.remember("ada", "tea", key="k")
    assert client.remember("ada", "tea", key="k").wait("searchable", timeout=10).reached is State.SEARCHABLE


def test_other_content_is_a_conflict(client: Front) -> None:
    first = client.remember("ada", "tea", key="k")
    with pytest.raises(Conflict) as caught:
        client.remember("ada", "coffee", key="k")
    assert caught.value.first == first.id


def test_bad_input_names_the_field(client: Front) -> None:
    for fields, named in [({"importance": 2.0}, "importance"), ({"tags": ["x" * 65]}, "tags.0")]:
        with pytest.raises(InvalidInput) as caught:
            client.remember("ada", "tea", **fields)  # type: ignore[arg-type]  # that is the point
        assert [error.field for error in caught.value.fields] == [named]


def test_a_batch_with_bad_items_takes_the_good_ones(client: Front) -> None:
    batch = client.remember_many(
        [
            {"agent": "ada", "content": "one"},
            {"agent": "ada", "content": ""},
            {"agent": "ada", "content": "three", "importance": float("nan")},
            {"agent": "bob", "content": "four", "surprise": 1},
            MemoryItem(agent="ada", content="five"),
        ]
    )
    assert [receipt is not None for receipt in batch.receipts] == [True, False, False, False, True]
    assert [(r.index, r.status, r.field) for r in batch.rejections] == [
        (1, 422, "content"),
        (2, 422, "importance"),
        (3, 422, "surprise"),
    ]
    batch.wait("stored")
    assert {memory.content for memory in client.memories("ada")} == {"one", "five"}


def test_a_batch_with_a_conflict(client: Front) -> None:
    first = client.remember("ada", "tea", key="k")
    batch = client.remember_many(
        [{"agent": "ada", "content": "coffee", "key": "k"}, {"agent": "ada", "content": "new", "key": "n"}]
    )
    assert [(r.index, r.status, r.first) for r in batch.rejections] == [(0, 409, first.id)]
    assert batch.receipts[0] is None
    assert batch.receipts[1] is not None


def test_a_batch_of_nothing_good(client: Front) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.remember_many([{"agent": "ada", "content": ""}, {"agent": "", "content": "x"}])
    assert [(error.index, error.field) for error in caught.value.fields] == [(0, "content"), (1, "agent")]


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_too_small_or_too_large(client: Front, count: int) -> None:
    with pytest.raises(InvalidInput, match="memories"):
        client.remember_many([{"agent": "ada", "content": "x"}] * count)


def test_atomic(client: Front) -> None:
    client.remember("ada", "tea", key="k").wait("stored")
    with pytest.raises(Conflict):
        client.remember_many(
            [{"agent": "ada", "content": "new"}, {"agent": "ada", "content": "coffee", "key": "k"}], atomic=True
        )
    with pytest.raises(InvalidInput):
        client.remember_many([{"agent": "ada", "content": "new"}, {"agent": "ada", "content": ""}], atomic=True)
    with pytest.raises(InvalidInput, match="atomic"):
        client.remember_many([{"agent": "ada", "content": "new"}, {"agent": "bob", "content": "new"}], atomic=True)
    assert [memory.content for memory in client.memories("ada")] == ["tea"]
    batch = client.remember_many([{"agent": "ada", "content": f"new {n}"} for n in range(3)], atomic=True)
    assert all(batch.receipts)


def test_forgetting_is_for_good(client: Front) -> None:
    receipt = client.remember("ada", "tea", key="k").wait("searchable")
    assert client.forget("ada", receipt.id).state is State.FORGOTTEN
    with pytest.raises(NotFound):
        client.get("ada", receipt.id)
    assert client.recall("ada", "tea").hits == ()
    assert client.receipt("ada", receipt.id).state is State.FORGOTTEN
    again = client.remember("ada", "tea", key="k")
    assert again.state is State.FORGOTTEN
    with pytest.raises(NeverReached):
        again.wait("searchable", timeout=2)
    assert client.forget("ada", receipt.id).state is State.FORGOTTEN


def test_forgetting_what_was_never_there(client: Front) -> None:
    client.remember("ada", "tea")
    with pytest.raises(NotFound):
        client.forget("ada", uuid4())
    with pytest.raises(NotFound):
        client.forget("nobody", uuid4())
    with pytest.raises(NotFound):
        client.forget_agent("nobody")


def test_forgetting_an_agent(client: Front) -> None:
    client.remember_many([{"agent": "ada", "content": f"tea {n}"} for n in range(5)]).wait("searchable")
    client.remember("bob", "tea").wait("searchable")
    client.forget_agent("ada")
    assert list(client.memories("ada")) == []
    assert client.recall("ada", "tea").hits == ()
    assert len(list(client.memories("bob"))) == 1
    client.remember("ada", "a new life").wait("searchable")
    assert [memory.content for memory in client.memories("ada")] == ["a new life"]


def test_pages_newest_first(client: Front) -> None:
    client.remember_many([{"agent": "ada", "content": f"memory {n}"} for n in range(7)]).wait("stored")
    first = client.page("ada", limit=3)
    assert [memory.content for memory in first.memories] == ["memory 6", "memory 5", "memory 4"]
    second = client.page("ada", limit=3, cursor=first.next)
    third = client.page("ada", limit=3, cursor=second.next)
    assert [memory.content for memory in third.memories] == ["memory 0"]
    assert third.next is None
    assert len(list(client.memories("ada"))) == 7
    with pytest.raises(InvalidInput, match="cursor"):
        client.page("ada", cursor="elsewhere")


FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"one", "two", "three"}),
    ({"kinds": ["fact"]}, {"one", "three"}),
    ({"kinds": ["fact", "turn"]}, {"one", "two", "three"}),
    ({"tags": ["a"]}, {"one", "two"}),
    ({"tags": ["a", "b"]}, {"two"}),
    ({"since": datetime(2024, 1, 2, tzinfo=UTC)}, {"two", "three"}),
    ({"until": datetime(2024, 1, 2, tzinfo=UTC)}, {"one"}),
    ({"thread": "t"}, {"two"}),
    ({"metadata": {"user": "u1"}}, {"one", "three"}),
    ({"metadata": {"user": "u1", "deep": {"x": [2]}}}, {"three"}),
    ({"min_importance": 0.6}, {"three"}),
    ({"min_importance": 0.5, "tags": ["a"]}, {"one", "two"}),
]


@pytest.fixture
def three(client: Front) -> Front:
    client.remember_many(
        [
            {"agent": "ada", "content": "one", "tags": ["a"], "metadata": {"user": "u1"}, "occurred_at": "2024-01-01"},
            {
                "agent": "ada",
                "content": "two",
                "kind": "turn",
                "tags": ["a", "b"],
                "occurred_at": "2024-01-02T00:00:00Z",
                "thread": "t",
            },
            {
                "agent": "ada",
                "content": "three",
                "metadata": {"user": "u1", "deep": {"x": [1, 2], "y": 0}},
                "occurred_at": "2024-01-03",
                "importance": 0.9,
            },
        ]
    ).wait("searchable")
    return client


def test_filters_of_lists_and_recall(three: Front) -> None:
    for filters, expected in FILTERS:
        assert {memory.content for memory in three.memories("ada", **filters)} == expected, filters
        hits = three.recall("ada", "one two three", **filters)
        assert {hit.memory.content for hit in hits} == expected, filters


def test_what_is_just_important_enough_counts(client: Front) -> None:
    """0.7 is less in single precision than it is in double."""
    values = [n / 10 for n in range(11)] + [0.123456789, 0.7109375, 1e-46, 5e-324]
    client.remember_many([{"agent": "ada", "content": f"tea {v}", "importance": v} for v in values]).wait("searchable")
    kept = {memory.content: memory.importance for memory in client.memories("ada")}
    assert [kept[f"tea {value}"] for value in values] == [*values[:11], 0.12345679, 0.7109375, 0.0, 0.0]
    for value in values:
        found = {memory.content for memory in client.memories("ada", min_importance=value)}
        assert f"tea {value}" in found
        assert all(kept[content] >= kept[f"tea {value}"] for content in found)


def test_recall_of_an_unknown_agent_is_empty(client: Front) -> None:
    recalled = client.recall("nobody", "anything?")
    assert recalled.hits == ()
    assert recalled.degraded == ()
    assert list(client.memories("nobody")) == []


def test_recall_takes_as_many_as_asked(client: Front) -> None:
    client.remember_many([{"agent": "ada", "content": f"tea number {n}"} for n in range(20)]).wait("searchable")
    assert len(client.recall("ada", "tea", limit=7)) == 7
    with pytest.raises(InvalidInput, match="limit"):
        client.recall("ada", "tea", limit=0)
    with pytest.raises(InvalidInput, match="query"):
        client.recall("ada", "  ")


@pytest.fixture
def several(client: Front) -> Front:
    """Twelve agents, who live on all shards, with three memories each."""
    client.remember_many(
        [{"agent": f"agent-{n}", "content": f"tea number {m} of {n}"} for n in range(12) for m in range(3)]
    ).wait("searchable")
    return client


def test_recall_of_several_agents(several: Front) -> None:
    names = [f"agent-{n}" for n in range(12)]
    recalled = several.recall(names, "tea", limit=100)
    assert len({hit.memory.id for hit in recalled}) == len(recalled) == 36
    assert {hit.memory.agent for hit in recalled} == set(names)
    assert all(hit.memory.content.endswith(f" of {hit.memory.agent.removeprefix('agent-')}") for hit in recalled)
    assert [hit.score for hit in recalled] == sorted((hit.score for hit in recalled), reverse=True)
    assert (recalled.missing, recalled.degraded) == ((), ())


def test_recall_of_several_agents_takes_the_best_of_all(several: Front) -> None:
    several.remember("agent-7", "a boat on the lake").wait("searchable")
    hits = several.recall([f"agent-{n}" for n in range(12)], "which boat on a lake?", limit=2).hits
    assert len(hits) == 2
    assert (hits[0].memory.agent, hits[0].memory.content) == ("agent-7", "a boat on the lake")
    assert {hit.memory.agent for hit in several.recall(["agent-1", "nobody", "agent-2"], "tea")} == {
        "agent-1",
        "agent-2",
    }
    assert several.recall(["nobody", "no one"], "tea").hits == ()


def test_filters_hold_for_each_of_several_agents(several: Front) -> None:
    for agent in ("agent-3", "agent-4"):
        several.remember(agent, "tea with a tag", tags=["tagged"]).wait("searchable")
    hits = several.recall([f"agent-{n}" for n in range(12)], "tea", tags=["tagged"]).hits
    assert {(hit.memory.agent, hit.memory.content) for hit in hits} == {
        ("agent-3", "tea with a tag"),
        ("agent-4", "tea with a tag"),
    }


def test_recall_of_all_agents(several: Front) -> None:
    several.remember("agent-3", "tea with a tag", tags=["tagged"]).wait("searchable")
    recalled = several.recall_all_agents("tea", limit=100)
    assert {hit.memory.agent for hit in recalled} == {f"agent-{n}" for n in range(12)}
    assert len({hit.memory.id for hit in recalled}) == len(recalled) == 37
    assert (recalled.missing, recalled.degraded) == ((), ())
    assert [hit.memory.content for hit in several.recall_all_agents("tea", tags=["tagged"])] == ["tea with a tag"]


def test_one_of_one_is_as_one(several: Front) -> None:
    alone, listed = several.recall("agent-1", "tea"), several.recall(["agent-1"], "tea")
    assert [(hit.memory.id, hit.score) for hit in alone] == [(hit.memory.id, hit.score) for hit in listed]


@pytest.mark.parametrize(
    ("agents", "field"),
    [([], "agents"), (["a", "b", "a"], "agents"), ([f"a{n}" for n in range(101)], "agents"), (["a", ""], "agents.1")],
)
def test_agents_that_cannot_be_asked(client: Front, agents: list[str], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.recall(agents, "tea")
    assert [error.field for error in caught.value.fields] == [field]


def test_names_of_any_kind(client: Front) -> None:
    for agent in (
        "a/b",
        "ünï cødé",
        "../etc",
        "a b?c=d#e%2F",
        "🫖",
        "x" * 128,
        "a/01a1fc61-ae6c-75c9-8c36-0ebc74d7748b",
    ):
        receipt = client.remember(agent, "tea").wait("stored")
        assert client.get(agent, receipt.id).agent == agent
        assert len(list(client.memories(agent))) == 1
        client.optimize(agent)
        client.forget(agent, receipt.id)
        client.forget_agent(agent)


def test_a_receipt_of_nothing(client: Front) -> None:
    client.remember("ada", "tea")
    with pytest.raises(NotFound):
        client.receipt("ada", uuid4())
    with pytest.raises(NotFound):
        client.get("ada", uuid4())


def test_the_ledger_adds_up(client: Front) -> None:
    client.remember_many([{"agent": f"agent-{n}", "content": "tea"} for n in range(10)]).wait("searchable")
    client.remember("agent-1", "tea", key="k").wait("searchable")
    client.remember("agent-1", "tea", key="k")
    client.forget("agent-1", client.remember("agent-1", "tea", key="k").id)
    ledger = client.ledger()
    assert ledger.balanced
    assert ledger.events[Event.ACCEPTED] == ledger.events[Event.STORED] == 11
    assert ledger.events[Event.DUPLICATE] == 2
    assert ledger.events[Event.FORGOTTEN] == 1


def test_embed_counts_texts(client: Front) -> None:
    assert client.embed(["one", "two", "one"]) == 2
    with pytest.raises(InvalidInput):
        client.embed([""])


def test_both_have_the_same_front() -> None:
    from memlane.testing import InMemoryClient

    for name in dir(Front):
        if not name.startswith("_"):
            assert hasattr(Client, name)
            assert hasattr(InMemoryClient, name)
