"""Forgetting: nothing of it is left, and nothing comes back."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from uuid import UUID, uuid4

import pytest

from memlane.config.settings import Settings
from memlane.contract import Event as LedgerEvent
from memlane.contract import Filters
from memlane.storage import forget as forget_storage
from memlane.storage import jobs, memories
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind, Terms
from memlane.tasks import forget
from memlane.tasks.lane import Lane
from memlane.tasks.remember import remember
from tests.support import accepted, count_rows, drain_all, item, ledger_of, remembered, sql

TERMS = Terms("somebody", 30.0, 256)


def test_nothing_is_left_of_a_memory(lane: Lane, settings: Settings, shard: Shard) -> None:
    (kept, gone) = remembered(lane, item("kept tea"), item("gone coffee"))
    memories.count_accesses(shard, {(1, 1): 2, (1, 2): 3})
    assert forget.forget_memory(lane, "acme", "ada", gone.id)
    for table in ("memories", lane.table, "memory_stats", "embedding_cache"):
        assert count_rows(settings, lane.cluster, table) == 1, table
    assert count_rows(settings, lane.cluster, "agents", "memories = 1 AND words = 3") == 1
    assert count_rows(settings, lane.cluster, "ids", f"id = '{gone.id}' AND state = 'forgotten'") == 1
    assert memories.by_id(shard, "acme", "ada", kept.id) is not None
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[LedgerEvent.FORGOTTEN] == 1
    assert forget.forget_memory(lane, "acme", "ada", gone.id)
    assert ledger_of(lane.cluster, "acme").events[LedgerEvent.FORGOTTEN] == 1


def test_an_open_job_is_dropped(lane: Lane, settings: Settings) -> None:
    (receipt,) = accepted(lane, item())
    assert forget.forget_memory(lane, "acme", "ada", receipt.id)
    drain_all(lane)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, "jobs") == 0
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[LedgerEvent.DROPPED] == 1


def test_while_a_drain_holds_it(lane: Lane, settings: Settings, shard: Shard) -> None:
    first, _ = accepted(lane, item("one"), item("two"))
    claim = jobs.claim(shard, Kind.REMEMBER, TERMS)
    assert claim is not None
    forget.forget_memory(lane, "acme", "ada", first.id)
    outcome = remember(lane, shard, claim)
    assert (outcome.stored, outcome.fenced) == (1, False)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, lane.table) == 1
    assert ledger_of(lane.cluster, "acme").balanced


def test_an_agent_while_a_drain_holds_its_jobs(lane: Lane, settings: Settings, shard: Shard) -> None:
    accepted(lane, item("one"), item("two"))
    claim = jobs.claim(shard, Kind.REMEMBER, TERMS)
    assert claim is not None
    forget.forget_agent(lane, "acme", "ada")
    assert remember(lane, shard, claim).dropped == 2
    drain_all(lane)
    assert count_rows(settings, lane.cluster, "memories") == 0
    assert count_rows(settings, lane.cluster, "ids", "state = 'forgotten'") == 2
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[LedgerEvent.DROPPED] == 2


@pytest.mark.parametrize("rounds", [20])
def test_forgetting_against_finishing(lane: Lane, settings: Settings, shard: Shard, rounds: int) -> None:
    """Both at once, again and again: nothing that was forgotten is left, and everything adds up."""
    for number in range(rounds):
        receipts = accepted(lane, *(item(f"round {number} memory {n}") for n in range(10)))
        claim = jobs.claim(shard, Kind.REMEMBER, TERMS)
        assert claim is not None
        go = Event()

        def forgetting(ids: list[object] = [r.id for r in receipts[::2]], go: Event = go) -> None:  # noqa: B006
            go.wait()
            for id_ in ids:
                forget.forget_memory(lane, "acme", "ada", id_)  # type: ignore[arg-type]

        thread = Thread(target=forgetting)
        thread.start()
        go.set()
        remember(lane, shard, claim)
        thread.join(20)
    assert count_rows(settings, lane.cluster, "memories") == rounds * 5
    assert count_rows(settings, lane.cluster, lane.table) == rounds * 5
    assert count_rows(settings, lane.cluster, "ids", "state = 'forgotten'") == rounds * 5
    assert count_rows(settings, lane.cluster, "jobs") == count_rows(settings, lane.cluster, "leases") == 0
    assert ledger_of(lane.cluster, "acme").balanced


def test_a_whole_agent_in_slices(lane: Lane, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered(lane, *(item(f"memory {n}") for n in range(60)), item("of bob", agent="bob"))
    accepted(lane, *(item(f"open {n}") for n in range(5)))
    monkeypatch.setattr("memlane.storage.forget.SLICE", 25)
    assert forget.forget_agent(lane, "acme", "ada")
    drain_all(lane, Kind.FORGET)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, lane.table) == 1
    assert count_rows(settings, lane.cluster, "embedding_cache") == 1
    assert count_rows(settings, lane.cluster, "jobs") == 0
    assert count_rows(settings, lane.cluster, "ids", "state = 'forgotten'") == 65
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert (balance.events[LedgerEvent.FORGOTTEN], balance.events[LedgerEvent.DROPPED]) == (60, 5)


@pytest.mark.parametrize("by_filter", [False, True])
def test_a_request_that_arrives_again_does_not_mean_what_came_since(
    lane: Lane, settings: Settings, by_filter: bool
) -> None:
    """The first was held up in a network, the second answered, and then the first arrives after all."""

    def ask(request: UUID) -> None:
        if by_filter:
            assert forget.forget_matching(lane, "acme", "ada", Filters(kinds=("fact",)), dry_run=False, request=request)
        else:
            assert forget.forget_agent(lane, "acme", "ada", request)
        drain_all(lane, Kind.FORGET)

    first, other = uuid4(), uuid4()
    remembered(lane, item("before"))
    ask(first)
    remembered(lane, item("since"))
    ask(first)
    assert count_rows(settings, lane.cluster, "memories", "content = 'since'") == 1
    ask(other)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, "jobs") == 0
    assert ledger_of(lane.cluster, "acme").balanced


def test_an_unknown_agent_or_memory(lane: Lane) -> None:
    (receipt,) = accepted(lane, item())
    assert not forget.forget_agent(lane, "acme", "nobody")
    assert not forget.forget_memory(lane, "acme", "nobody", receipt.id)
    assert not forget.forget_memory(lane, "rival", "ada", receipt.id)


def test_again_while_the_job_of_the_first_time_is_finishing(lane: Lane, settings: Settings, shard: Shard) -> None:
    """What came in between the two is removed as well, though the first job had been through already."""
    remembered(lane, item("first"))
    forget.forget_agent(lane, "acme", "ada")
    claim = jobs.claim(shard, Kind.FORGET, TERMS)
    assert claim is not None
    assert forget_storage.remove_slice(shard, "acme", claim.jobs[0].agent or 0).memories == 1
    remembered(lane, item("second"))
    assert forget.forget_agent(lane, "acme", "ada")
    assert jobs.settle(shard, claim.token, claim.numbers)
    drain_all(lane, Kind.FORGET)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, "jobs") == 0
    assert count_rows(settings, lane.cluster, "ids", "state = 'forgotten'") == 2


def test_an_embed_job_whose_memory_is_gone_ends(lane: Lane, settings: Settings, shard: Shard) -> None:
    """A finish may open it just after forget has looked for it."""
    remembered(lane, item("tea"))
    with sql(settings, shard.node.name) as connection:
        connection.execute(
            f"INSERT INTO {shard.schema}.jobs (number, kind, tenant, agent, id, payload) "
            f"SELECT number, 'embed', 'acme', agent, id, '{{}}' FROM {shard.schema}.memories".encode()
        )
        connection.execute(f"DELETE FROM {shard.schema}.memories".encode())
    drain_all(lane, Kind.EMBED)
    assert count_rows(settings, lane.cluster, "jobs") == count_rows(settings, lane.cluster, "leases") == 0


def test_while_the_provider_works_its_cache_keeps_nothing(lane: Lane, settings: Settings, shard: Shard) -> None:
    (receipt,) = accepted(lane, item("secret"))
    claim = jobs.claim(shard, Kind.REMEMBER, TERMS)
    assert claim is not None
    assert forget.forget_memory(lane, "acme", "ada", receipt.id)
    remember(lane, shard, claim)
    assert count_rows(settings, lane.cluster, "embedding_cache") == 0


def test_memories_and_their_agent_at_once_never_deadlock(lane: Lane, settings: Settings) -> None:
    receipts = remembered(lane, *(item(f"memory {n}") for n in range(200)))
    with ThreadPoolExecutor(4) as pool:
        one_by_one = pool.map(lambda r: forget.forget_memory(lane, "acme", "ada", r.id), receipts)
        forget.forget_agent(lane, "acme", "ada")
        drain_all(lane, Kind.FORGET)
        assert all(one_by_one)
    drain_all(lane, Kind.FORGET)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, "jobs") == 0
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[LedgerEvent.FORGOTTEN] == 200
