"""Drains: jobs are claimed under a lease and finished once, whatever happens in between."""

from collections.abc import Callable, Sequence
from threading import Event, Thread
from time import sleep
from typing import Any
from uuid import uuid4

import pytest

from memlane.config.settings import Settings
from memlane.contract import Event as LedgerEvent
from memlane.contract import State
from memlane.contract.requests import EmbeddingsRequest
from memlane.errors import NodeDown, ProviderRefused, Unavailable
from memlane.storage import ids, jobs, leases
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Done, Kind, Terms
from memlane.storage.spending import Group
from memlane.tasks.embedders import Embedding
from memlane.tasks.embedders.hash import HashEmbedder
from memlane.tasks.lane import Lane
from memlane.tasks.provider import Wanted
from memlane.tasks.remember import remember
from memlane.workers import drains
from tests.support import (
    MakeSettings,
    Recorder,
    accepted,
    asks,
    count_rows,
    drain_all,
    eventually,
    item,
    ledger_of,
    process_of,
    remembered,
    sql,
)

TERMS = Terms("somebody", 30.0, 256)


class Gate:
    """An embedder that waits at a gate, refuses, or breaks, as a test says."""

    def __init__(self, lane: Lane) -> None:
        self._real = HashEmbedder(lane.model)
        self.model = lane.model
        self.most_texts = self.most_chars = 10**9
        self.count = self._real.count
        self.open = Event()
        self.open.set()
        self.reached = Event()
        self.refusal: ProviderRefused | None = None
        self.poison: str | None = None
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Embedding:
        self.reached.set()
        self.open.wait(30)
        self.asked.extend(texts)
        if self.poison is not None and any(self.poison in text for text in texts):
            raise RuntimeError("this text breaks the library")
        if self.refusal is not None:
            raise self.refusal
        return self._real.embed(texts)


@pytest.fixture
def gate(lane: Lane) -> Gate:
    made = Gate(lane)
    asks(lane, made)
    return made


def test_stored_and_searchable_in_one_transaction(lane: Lane, settings: Settings) -> None:
    receipts = accepted(lane, *(item(f"memory {n}", agent=f"agent-{n % 7}") for n in range(50)))
    drain_all(lane)
    for table in ("memories", lane.table):
        assert count_rows(settings, lane.cluster, table) == 50
    assert count_rows(settings, lane.cluster, "ids", "state = 'searchable'") == len(receipts)
    assert count_rows(settings, lane.cluster, "jobs") == count_rows(settings, lane.cluster, "leases") == 0
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[LedgerEvent.STORED] == balance.events[LedgerEvent.EMBEDDED] == 50


def test_counts_of_agents_are_kept(lane: Lane, settings: Settings, shard: Shard) -> None:
    accepted(lane, item("green tea tea"), item("black tea"))
    drain_all(lane)
    with sql(settings, shard.node.name) as connection:
        row = connection.execute(f"SELECT memories, words FROM {shard.schema}.agents".encode()).fetchone()
    assert row == (2, 3 + 3)  # two words and the agent's own


def test_every_field_comes_back(lane: Lane) -> None:
    from memlane.storage import memories

    fields: dict[str, Any] = {
        "key": "k",
        "kind": "preference",
        "importance": 0.8,
        "tags": ["a", "b"],
        "metadata": {"deep": [1, {"x": None}], "ünï": "çødé 🫖"},
        "occurred_at": "2023-05-08T13:56:00+00:00",
        "thread": "t",
        "speaker": "Ada",
    }
    (receipt,) = accepted(lane, item("Grüner Tee 🍵 'quoted' \\ %s {x}", **fields))
    drain_all(lane)
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    memory = memories.by_id(shard, "acme", "ada", receipt.id)
    assert memory is not None
    assert memory.content == "Grüner Tee 🍵 'quoted' \\ %s {x}"
    assert memory.importance == 0.8
    assert memory.tags == ("a", "b")
    assert memory.metadata == fields["metadata"]
    assert memory.occurred_at.isoformat() == fields["occurred_at"]
    assert (memory.key, memory.kind, memory.thread, memory.speaker) == ("k", "preference", "t", "Ada")


def test_two_claims_share_no_job(lane: Lane, shard: Shard) -> None:
    accepted(lane, *(item(f"memory {n}") for n in range(10)))
    small = Terms("somebody", 30.0, 6)
    first, second = jobs.claim(shard, Kind.REMEMBER, small), jobs.claim(shard, Kind.REMEMBER, small)
    assert first is not None
    assert second is not None
    assert set(first.numbers).isdisjoint(second.numbers)
    assert len(first.jobs) + len(second.jobs) == 10
    assert jobs.claim(shard, Kind.REMEMBER, small) is None


def test_a_claim_shares_out_among_tenants(lane: Lane, shard: Shard) -> None:
    agents = {"acme": "ada"}
    for tenant in ("bolt", "cube"):
        agents[tenant] = next(
            name for n in range(1000) if lane.cluster.shard_of(tenant, name := f"a{n}") == shard.number
        )
    accepted(lane, *(item(f"memory {n}") for n in range(100)))
    for tenant in ("bolt", "cube"):
        accepted(lane, *(item(f"memory {n}", agent=agents[tenant]) for n in range(3)), tenant=tenant)
    claim = jobs.claim(shard, Kind.REMEMBER, Terms("somebody", 30.0, 12))
    assert claim is not None
    shares = [[job.tenant for job in claim.jobs].count(tenant) for tenant in ("acme", "bolt", "cube")]
    assert shares == [6, 3, 3]


def test_claims_rotate_over_more_tenants_than_they_take(lane: Lane, shard: Shard) -> None:
    tenants = [f"tenant-{n}" for n in range(9)]
    for tenant in tenants:
        agent = next(name for n in range(1000) if lane.cluster.shard_of(tenant, name := f"a{n}") == shard.number)
        accepted(lane, item("one", agent=agent), item("two", agent=agent), tenant=tenant)
    seen: list[str] = []
    after = ""
    for _ in range(3):
        claim = jobs.claim(shard, Kind.REMEMBER, Terms("somebody", 30.0, 3), after)
        assert claim is not None
        seen += [job.tenant for job in claim.jobs]
        after = max(job.tenant for job in claim.jobs)
    assert sorted(seen) == tenants


def test_a_lost_lease_is_fenced(lane: Lane, settings: Settings, shard: Shard) -> None:
    accepted(lane, item())
    claim = jobs.claim(shard, Kind.REMEMBER, Terms("slow", 0.01, 256))
    assert claim is not None
    sleep(0.05)
    assert leases.expire(shard, 256, 3) == (1, 0)
    outcome = remember(lane, shard, claim)
    assert outcome.fenced
    assert count_rows(settings, lane.cluster, "memories") == 0
    drain_all(lane)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, lane.table) == 1


def test_a_late_holder_takes_its_death_back(lane: Lane, settings: Settings, shard: Shard) -> None:
    accepted(lane, item())
    claim = jobs.claim(shard, Kind.REMEMBER, Terms("slow", 0.01, 256))
    assert claim is not None
    sleep(0.05)
    leases.expire(shard, 256, 3)
    assert count_rows(settings, lane.cluster, "jobs", "deaths = 1") == 1
    assert drains.work_off(process_of(lane), shard, claim) == Done(fenced=True)
    assert count_rows(settings, lane.cluster, "jobs", "deaths = 0") == 1


def test_renewing_holds_a_lease(lane: Lane, shard: Shard) -> None:
    accepted(lane, item())
    claim = jobs.claim(shard, Kind.REMEMBER, Terms("slow", 0.2, 256))
    assert claim is not None
    for _ in range(5):
        sleep(0.1)
        assert leases.renew(shard, claim.token, 0.2)
        assert leases.expire(shard, 256, 3) == (0, 0)
    assert not leases.renew(shard, uuid4(), 1.0)


def test_the_keeper_renews_while_the_provider_takes_its_time(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    lane = make_lane(make_settings(lease_s=0.9, statement_timeout_s=0.8))
    gate = Gate(lane)
    asks(lane, gate)
    accepted(lane, item())
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    gate.open.clear()
    worker = Thread(target=drains.drain, args=(process_of(lane), "drain.remember", shard.number))
    worker.start()
    gate.reached.wait(10)
    sleep(1.5)
    assert leases.expire(shard, 256, 3) == (0, 0)
    gate.open.set()
    worker.join(10)
    assert ledger_of(lane.cluster, "acme").events[LedgerEvent.STORED] == 1


def test_asked_to_stop_a_lease_is_given_back(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    settings = make_settings(stop_grace_s=0.2)
    lane = make_lane(settings)
    gate = Gate(lane)
    asks(lane, gate)
    accepted(lane, item())
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    stop = Event()
    gate.open.clear()
    process = process_of(lane, stop.is_set)
    worker = Thread(target=drains.drain, args=(process, "drain.remember", shard.number))
    worker.start()
    gate.reached.wait(10)
    assert count_rows(settings, lane.cluster, "leases") == 1
    stop.set()
    eventually(lambda: count_rows(settings, lane.cluster, "leases") == 0)
    assert count_rows(settings, lane.cluster, "jobs", "lease IS NULL AND deaths = 0") == 1
    gate.open.set()
    worker.join(10)
    assert count_rows(settings, lane.cluster, "memories") == 0


def test_without_the_provider_memories_are_stored_and_embedded_later(
    lane: Lane, settings: Settings, gate: Gate, recorder: Recorder
) -> None:
    gate.refusal = ProviderRefused("the provider answered 500", retry_after_s=0.05)
    receipts = accepted(lane, *(item(f"memory {n}") for n in range(5)))
    drain_all(lane, Kind.REMEMBER)
    assert count_rows(settings, lane.cluster, "memories") == 5
    assert count_rows(settings, lane.cluster, lane.table) == 0
    assert count_rows(settings, lane.cluster, "ids", "state = 'stored'") == 5
    assert count_rows(settings, lane.cluster, "jobs", "kind = 'embed'") == 5
    assert ledger_of(lane.cluster, "acme").balanced
    drain_all(lane, Kind.EMBED)
    assert count_rows(settings, lane.cluster, "jobs", "kind = 'embed' AND deaths = 0 AND lease IS NULL") == 5
    gate.refusal = None
    with sql(settings, lane.cluster.shard(lane.cluster.shard_of("acme", "ada")).node.name) as connection:
        for shard in lane.cluster.shards():
            if shard.node.name == lane.cluster.shard(lane.cluster.shard_of("acme", "ada")).node.name:
                connection.execute(f"UPDATE {shard.schema}.jobs SET not_before = now()".encode())
    sleep(0.1)
    drain_all(lane, Kind.EMBED)
    assert count_rows(settings, lane.cluster, "ids", "state = 'searchable'") == len(receipts)
    assert count_rows(settings, lane.cluster, "jobs") == 0
    recorder.take()


def test_one_text_that_the_provider_refuses_harms_only_itself(lane: Lane, settings: Settings) -> None:
    class Picky(Gate):
        def embed(self, texts: Sequence[str]) -> Embedding:
            if any("bad" in text for text in texts):
                raise ProviderRefused("the provider answered 400", about_input=True)
            return super().embed(texts)

    asks(lane, Picky(lane))
    accepted(lane, *(item(f"memory {n} {'bad' if n == 3 else 'good'}") for n in range(8)))
    drain_all(lane, Kind.REMEMBER)
    assert count_rows(settings, lane.cluster, lane.table) == 7
    assert count_rows(settings, lane.cluster, "jobs", "kind = 'embed'") == 1


def test_a_job_that_breaks_its_worker_is_narrowed_down_and_parked(
    lane: Lane, settings: Settings, gate: Gate, shard: Shard
) -> None:
    gate.poison = "poison"
    receipts = accepted(lane, *(item(f"memory {n}{' poison' if n == 5 else ''}") for n in range(20)))
    for _ in range(12):
        drain_all(lane, Kind.REMEMBER)
    assert count_rows(settings, lane.cluster, "memories") == 19
    assert count_rows(settings, lane.cluster, "jobs", "parked_at IS NOT NULL AND error LIKE 'RuntimeError%'") == 1
    ((state, error),) = ids.states(shard, [(1, receipts[5].id)]).values()
    assert state is State.PARKED
    assert error is not None
    assert "poison" not in error
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert (balance.parked, balance.events[LedgerEvent.PARKED]) == (1, 1)


def test_dead_holders_make_claims_smaller_until_a_job_is_parked(lane: Lane, settings: Settings, shard: Shard) -> None:
    accepted(lane, *(item(f"memory {n}") for n in range(8)))
    terms = Terms("doomed", 0.001, 8)
    sizes = []
    for _ in range(6):
        claim = jobs.claim_suspects(shard, Kind.REMEMBER, terms) or jobs.claim(shard, Kind.REMEMBER, terms)
        assert claim is not None
        sizes.append(len(claim.jobs))
        sleep(0.02)
        leases.expire(shard, 8, 3)
    assert sizes == [8, 4, 2, 1, 1, 1]
    assert count_rows(settings, lane.cluster, "jobs", "parked_at IS NOT NULL") == 1
    assert count_rows(settings, lane.cluster, "ids", "state = 'parked'") == 1
    assert ledger_of(lane.cluster, "acme").balanced


def test_outages_count_as_no_death(lane: Lane, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted(lane, item())

    def down(*_: object, **__: object) -> None:
        raise NodeDown("node down")

    monkeypatch.setattr("memlane.tasks.remember.memories.store", down)
    for _ in range(3):
        drain_all(lane, Kind.REMEMBER)
    assert count_rows(settings, lane.cluster, "jobs", "deaths = 0 AND lease IS NULL") == 1
    assert count_rows(settings, lane.cluster, "leases") == 0


def test_a_claim_of_unknown_outcome_is_given_back(
    lane: Lane, settings: Settings, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted(lane, item())
    real = Shard.write

    def lost_answer(self: Shard, *args: object, **kwargs: object) -> object:
        real(self, *args, **kwargs)  # type: ignore[arg-type]
        raise NodeDown("the connection went with the answer")

    monkeypatch.setattr(Shard, "write", lost_answer)
    with pytest.raises(Unavailable):
        jobs.claim(shard, Kind.REMEMBER, TERMS)
    monkeypatch.undo()
    assert count_rows(settings, lane.cluster, "leases") == 0
    assert count_rows(settings, lane.cluster, "jobs", "lease IS NULL AND deaths = 0") == 1


def test_the_same_text_is_embedded_once(lane: Lane, gate: Gate) -> None:
    accepted(lane, item("tea"), item("tea"), item("tea", agent="bob"))
    drain_all(lane)
    assert gate.asked.count("tea") == 1
    accepted(lane, item("tea", agent="carl"))
    accepted(lane, item("tea", agent="dora"), tenant="rival")
    drain_all(lane)
    assert gate.asked.count("tea") == 2  # once for each tenant


def test_texts_asked_for_ahead_are_in_the_cache(lane: Lane, settings: Settings, gate: Gate) -> None:
    from memlane.tasks import batch_embed, embedding

    wanted = EmbeddingsRequest(texts=("one", "two", "one"))
    for opened in (2, 0):  # what is open already is not opened again
        parts = batch_embed.place(lane, "acme", wanted).items()
        assert sum(batch_embed.on_shard(lane, "acme", wanted, number, texts) for number, texts in parts) == opened
    drain_all(lane, Kind.TEXT_EMBED)
    assert count_rows(settings, lane.cluster, "embedding_cache") == 2
    gate.asked.clear()
    assert embedding.embed(lane, {1: Wanted(Group("acme", ""), "one")}, 1.0).found.keys() == {1}
    assert gate.asked == []
    assert embedding.embed(lane, {1: Wanted(Group("rival", ""), "one")}, 1.0).found.keys() == {1}
    assert gate.asked == ["one"]


def test_a_drain_tells_what_its_claims_came_to(lane: Lane, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted(lane, *(item(f"memory {n}") for n in range(5)))
    lane.settings = lane.settings.model_copy(update={"claim_size": 2, "slice_s": 10.0})
    assert str(drains.drain(process_of(lane), "drain.remember", shard.number)) == "stored 5, searchable 5"
    assert str(drains.drain(process_of(lane), "drain.remember", shard.number)) == "nothing"
    accepted(lane, item("one more"))
    monkeypatch.setattr(drains, "WORK", {Kind.REMEMBER: drains.Work(_refuse)})
    assert str(drains.drain(process_of(lane), "drain.remember", shard.number)) == "refused"
    monkeypatch.setattr(drains, "WORK", {Kind.REMEMBER: drains.Work(_break)})
    assert drains.drain(process_of(lane), "drain.remember", shard.number).failed >= 1


def _refuse(*_: object) -> Done:
    raise NodeDown("node-1")


def _break(*_: object) -> Done:
    raise ValueError("a bad job")


def test_a_slice_makes_room_and_wakes_the_rest(lane: Lane, recorder: Recorder, shard: Shard) -> None:
    accepted(lane, *(item(f"memory {n}") for n in range(4)))
    recorder.take()
    lane.settings = lane.settings.model_copy(update={"claim_size": 1, "slice_s": 0.000001})
    drains.drain(process_of(lane), "drain.remember", shard.number)
    assert set(recorder.take()) == {(Kind.REMEMBER, shard.number)}  # for another drain, and for the rest


def test_tenants_with_nothing_due_take_no_place_in_a_claim(lane: Lane, settings: Settings, shard: Shard) -> None:
    agents = {t: next(f"a{n}" for n in range(99) if lane.cluster.shard_of(t, f"a{n}") == shard.number) for t in "abcd"}
    for tenant, agent in agents.items():
        accepted(lane, *(item(f"memory {n}", agent=agent) for n in range(4)), tenant=tenant)
    with sql(settings, shard.node.name) as connection:
        late = f"UPDATE {shard.schema}.jobs SET not_before = now() + interval '1 hour' WHERE tenant IN ('a', 'b')"
        connection.execute(late.encode())
    claim = jobs.claim(shard, Kind.REMEMBER, Terms("me", 30, 2))
    assert claim is not None
    assert {job.tenant for job in claim.jobs} == {"c", "d"}
    assert claim.last == "d"


def test_a_claim_is_never_larger_than_asked_for(lane: Lane, shard: Shard) -> None:
    for tenant in ("a", "b", "c"):
        agent = next(f"a{n}" for n in range(99) if lane.cluster.shard_of(tenant, f"a{n}") == shard.number)
        accepted(lane, *(item(f"memory {n}", agent=agent) for n in range(9)), tenant=tenant)
    claim = jobs.claim(shard, Kind.REMEMBER, Terms("me", 30, 8))
    assert claim is not None
    assert len(claim.jobs) == 6


def test_a_vector_is_there_once_however_many_jobs_ask_for_it(lane: Lane, settings: Settings, shard: Shard) -> None:
    remembered(lane, item("tea"))
    for _ in range(2):
        with sql(settings, shard.node.name) as connection:
            connection.execute(
                f"INSERT INTO {shard.schema}.jobs (number, kind, tenant, agent, id, payload) "
                f"SELECT number, 'embed', 'acme', agent, id, '{{}}' FROM {shard.schema}.memories".encode()
            )
        drain_all(lane, Kind.EMBED)
    assert count_rows(settings, lane.cluster, lane.table) == 1
    assert count_rows(settings, lane.cluster, "jobs") == 0
    assert ledger_of(lane.cluster, "acme").events[LedgerEvent.EMBEDDED] == 1


def test_missing_vectors_are_asked_for_slice_by_slice(
    lane: Lane, settings: Settings, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memlane.tasks import batch_embed

    gate.refusal = ProviderRefused("down", retry_after_s=0.0)
    remembered(lane, *(item(f"memory {n}", agent=f"a{n % 3}") for n in range(20)))
    with sql(settings, "node-1") as one, sql(settings, "node-2") as two:
        for shard in lane.cluster.shards():
            (one if shard.node.name == "node-1" else two).execute(f"DELETE FROM {shard.schema}.jobs".encode())
    gate.refusal = None
    lane.provider._refusal = None
    monkeypatch.setattr("memlane.storage.jobs.SLICE", 3)
    shards = range(lane.cluster.shard_count)
    of_one = batch_embed.open_missing(lane, lane.cluster.shard_of("acme", "a1"), "acme", "a1")
    assert of_one == len([n for n in range(20) if n % 3 == 1])
    assert sum(batch_embed.open_missing(lane, number, "rival") for number in shards) == 0
    assert sum(batch_embed.open_missing(lane, number, None) for number in shards) == 20 - of_one
    drain_all(lane, Kind.EMBED)
    assert count_rows(settings, lane.cluster, lane.table) == 20


def test_settings_that_are_wrong_count_as_no_death(lane: Lane, settings: Settings) -> None:
    accepted(lane, item())
    lane.settings = settings.model_copy(update={"text_search": "klingon"})
    for _ in range(3):
        drain_all(lane, Kind.REMEMBER)
    assert count_rows(settings, lane.cluster, "jobs", "deaths = 0 AND lease IS NULL") == 1


def test_tenants_have_their_turn_though_each_slice_ends_after_one_claim(
    lane: Lane, settings: Settings, shard: Shard
) -> None:
    for tenant in "abcdef":
        agent = next(f"a{n}" for n in range(99) if lane.cluster.shard_of(tenant, f"a{n}") == shard.number)
        accepted(lane, *(item(f"memory {n}", agent=agent) for n in range(9)), tenant=tenant)
    lane.settings = settings.model_copy(update={"claim_size": 2, "slice_s": 1e-9})
    process = process_of(lane)
    for _ in range(3):
        drains.drain(process, "drain.remember", shard.number)
    with sql(settings, shard.node.name) as connection:
        rows = connection.execute(f"SELECT DISTINCT tenant FROM {shard.schema}.ledger WHERE event = 'stored'".encode())
        assert {tenant for (tenant,) in rows} == set("abcdef")
