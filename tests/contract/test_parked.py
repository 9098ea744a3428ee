"""What was set aside: an operator sees it without content, its owner with; either has it tried again or given up."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr

from memlane import AsyncClient, Client
from memlane.admin import Admin
from memlane.beat.sweep import Sweep
from memlane.client.front import Front
from memlane.config.settings import Settings
from memlane.contract import Event, MemoryUpdate, Receipt, State
from memlane.errors import Forbidden, InvalidInput, NotFound, Unavailable
from memlane.storage import jobs, leases, tenants
from memlane.storage.jobs import Kind, Terms
from memlane.storage.roles import WORKER
from memlane.tasks import forget, producers
from memlane.tasks.lane import Lane
from memlane.tasks.update import update_memory
from memlane.testing import InMemoryClient
from tests.contract.conftest import serving
from tests.support import (
    accepted,
    as_role,
    count_rows,
    drain_all,
    item,
    ledger_of,
    remembered,
    sql,
)

SECRET = "a secret that nobody else may read"
GOOD = (Kind.REMEMBER, Kind.EMBED)


@pytest.fixture
def admin(gateway: str, admin_key: str) -> Iterator[Admin]:
    """The admin's client."""
    with closing(Admin(gateway, admin_key)) as made:
        yield made


@pytest.fixture
def client(gateway: str, tenant_key: str) -> Iterator[Client]:
    """The tenant's client."""
    with Client(gateway, tenant_key, retries=0) as made:
        yield made


def park(lane: Lane, kind: Kind = Kind.REMEMBER) -> None:
    """Have all open jobs of a kind die until they are parked, as the sweep does it."""
    for shard in lane.cluster.shards():
        claim = jobs.claim(shard, kind, Terms("doomed", 60.0, 1000))
        while claim is not None:
            leases.fail(shard, claim.token, "RuntimeError in test")
            leases.expire(shard, 1, 1)
            claim = jobs.claim(shard, kind, Terms("doomed", 60.0, 1000))


def parked_memories(lane: Lane, *contents: str, agent: str = "ada", tenant: str = "acme") -> list[Receipt]:
    """Memories whose jobs are parked."""
    receipts = accepted(lane, *(item(content, agent) for content in contents), tenant=tenant)
    park(lane)
    return receipts


def parked_vectors(lane: Lane, *contents: str) -> list[Receipt]:
    """Memories that are stored, and whose embed jobs are parked."""
    receipts = remembered(lane, *(item(f"before: {content}") for content in contents))
    for receipt, content in zip(receipts, contents, strict=True):
        assert update_memory(lane, "acme", "ada", receipt.id, MemoryUpdate(content=content))
    park(lane, Kind.EMBED)
    return receipts


def test_an_operator_sees_everything_but_content(lane: Lane, admin: Admin, gateway: str, admin_key: str) -> None:
    (receipt,) = parked_memories(lane, SECRET)
    parked_memories(lane, SECRET, tenant="bolt", agent="bob")
    (seen,) = admin.parked_page(tenant="acme").jobs
    shard = lane.cluster.shard_of("acme", "ada")
    assert (seen.id, seen.shard, seen.kind, seen.deaths, seen.error) == (
        receipt.id,
        shard,
        "remember",
        1,
        "RuntimeError in test",
    )
    assert seen.bytes > len(SECRET)
    assert [one.tenant for one in admin.parked_page(kind="remember").jobs if one.shard == shard][:1] != []
    assert admin.parked_page(id=receipt.id).jobs == admin.parked_page(job=seen.job).jobs == (seen,)
    assert admin.parked_page(kind="embed").jobs == admin.parked_page(id=uuid4()).jobs == ()
    raw = httpx.get(f"{gateway}/v1/admin/jobs/parked", headers={"Authorization": f"Bearer {admin_key}"}, timeout=20)
    assert len(raw.json()["jobs"]) == 2
    assert SECRET not in raw.text


def test_an_owner_sees_its_own_with_content(lane: Lane, client: Client) -> None:
    (first,) = parked_memories(lane, SECRET)
    parked_memories(lane, "not yours", tenant="bolt")
    (second,) = parked_vectors(lane, "the new content")
    found = {one.id: one for one in client.parked()}
    assert {id_: (one.kind, one.content) for id_, one in found.items()} == {
        first.id: ("remember", SECRET),
        second.id: ("embed", "the new content"),
    }
    assert [one.id for one in client.parked(kind="embed")] == [second.id]
    assert [one.id for one in client.parked_page(agent="ada", id=first.id).parked] == [first.id]
    assert client.parked_page(agent="nobody").parked == ()


def test_pages_go_through_all_shards_and_end(lane: Lane, client: Client, admin: Admin) -> None:
    receipts = [one for n in range(12) for one in parked_memories(lane, f"one {n}", f"two {n}", agent=f"agent-{n}")]
    wanted = {receipt.id for receipt in receipts}
    seen: list[UUID] = []
    cursor = None
    while True:
        page = admin.parked_page(limit=5, cursor=cursor)
        seen += [one.id for one in page.jobs]
        assert len(page.jobs) == 5 or page.next is None
        cursor = page.next
        if cursor is None:
            break
    assert (len(seen), set(seen)) == (24, wanted)
    assert {one.id for one in client.parked()} == wanted
    (one_shard,) = {job.shard for job in admin.parked_page(shard=1).jobs}
    assert one_shard == 1


@pytest.mark.parametrize("cursor", ["", "x", "1.2", "1.2.3.4", "-1.0.0", f"0.{'9' * 18}.0", f"0.0.{'9' * 30}"])
def test_a_cursor_that_is_none(client: Client, admin: Admin, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        client.parked_page(cursor=cursor)
    with pytest.raises(InvalidInput, match="cursor"):
        admin.strays_page(cursor=cursor)


def test_tried_again_it_is_stored(lane: Lane, client: Client, admin: Admin, settings: Settings) -> None:
    first, second = parked_memories(lane, "one", "two")
    assert client.receipt("ada", first.id).state is State.PARKED
    assert client.retry_parked([first]) == 1
    assert client.retry_parked([first]) == 0
    assert client.receipt("ada", first.id).state is State.ACCEPTED
    assert admin.retry_parked([one.job for one in admin.parked_page().jobs]) == 1
    balance = client.ledger()
    assert (balance.open, balance.parked, balance.events[Event.UNPARKED], balance.balanced) == (2, 0, 2, True)
    drain_all(lane, *GOOD)
    assert [client.receipt("ada", one.id).state for one in (first, second)] == [State.SEARCHABLE] * 2
    assert client.ledger().balanced
    assert count_rows(settings, lane.cluster, "jobs") == 0


def test_given_up_it_is_forgotten_with_its_cached_vector(lane: Lane, client: Client, settings: Settings) -> None:
    kept, gone = parked_memories(lane, "kept", "gone")
    assert client.drop_parked([gone]) == 1
    assert client.drop_parked([gone]) == 0
    assert client.receipt("ada", gone.id).state is State.FORGOTTEN
    assert client.remember("ada", "gone", key=None).state is State.ACCEPTED  # another memory
    (again,) = accepted(lane, item("gone", id=gone.id))
    assert again.state is State.FORGOTTEN
    balance = client.ledger()
    assert (balance.events[Event.DROPPED], balance.parked, balance.balanced) == (1, 1, True)
    assert count_rows(settings, lane.cluster, "jobs", f"id = '{gone.id}'") == 0
    assert [one.id for one in client.parked()] == [kept.id]


def test_without_its_vector_a_memory_stays(lane: Lane, client: Client) -> None:
    first, second = parked_vectors(lane, "one", "two")
    assert client.get("ada", first.id).content == "one"
    assert client.drop_parked([first]) == 1
    assert client.retry_parked([second]) == 1
    assert [client.receipt("ada", one.id).state for one in (first, second)] == [State.STORED] * 2
    drain_all(lane, *GOOD)
    assert [client.receipt("ada", one.id).state for one in (first, second)] == [State.STORED, State.SEARCHABLE]
    assert client.embed(agent="ada") == 1
    drain_all(lane, *GOOD)
    assert client.receipt("ada", first.id).state is State.SEARCHABLE
    balance = client.ledger()
    assert (balance.events[Event.DROPPED], balance.events[Event.UNPARKED], balance.balanced) == (0, 0, True)


def test_an_update_takes_a_parked_vector_up_again(lane: Lane, client: Client) -> None:
    (receipt,) = parked_vectors(lane, "one")
    assert client.receipt("ada", receipt.id).state is State.PARKED
    client.update("ada", receipt.id, content="two")
    assert client.receipt("ada", receipt.id).state is State.STORED
    drain_all(lane, *GOOD)
    assert client.receipt("ada", receipt.id).state is State.SEARCHABLE


def test_others_are_not_touched(lane: Lane, client: Client, made_client: Callable[[str], Client]) -> None:
    (mine,) = parked_memories(lane, "mine")
    (waiting,) = accepted(lane, item("waiting"))
    tenants.create_tenant(lane.cluster.control, "bolt")
    other = made_client(tenants.create_key(lane.cluster.control, "bolt"))
    assert other.retry_parked([mine]) == other.drop_parked([mine]) == 0
    assert list(other.parked()) == []
    assert client.drop_parked([waiting]) == client.retry_parked([waiting]) == 0
    assert client.receipt("ada", waiting.id).state is State.ACCEPTED
    unknown = Receipt(uuid4(), "nobody", State.PARKED)
    assert client.retry_parked([unknown]) == client.drop_parked([unknown]) == 0


def test_many_at_once_decide_once(lane: Lane, admin: Admin, client: Client) -> None:
    parked_memories(lane, *(f"memory {n}" for n in range(40)))
    names = [one.job for one in admin.parked_page(limit=100).jobs]
    orders = names, names[::-1]

    def decide(n: int) -> int:
        return (admin.retry_parked if n % 2 else admin.drop_parked)(orders[n % 3 == 0])

    with ThreadPoolExecutor(6) as pool:
        decided = list(pool.map(decide, range(6)))
    assert sum(decided) == 40
    balance = client.ledger()
    assert (balance.parked, balance.balanced) == (0, True)
    assert balance.open + balance.events[Event.DROPPED] == 40


def test_a_promise_to_forget_is_not_given_up(lane: Lane, admin: Admin, settings: Settings) -> None:
    remembered(lane, item())
    assert forget.forget_agent(lane, "acme", "ada")
    park(lane, Kind.FORGET)
    (seen,) = admin.parked_page(kind="forget").jobs
    assert admin.drop_parked([seen.job]) == 0
    assert admin.retry_parked([seen.job]) == 1
    drain_all(lane, Kind.FORGET)
    assert count_rows(settings, lane.cluster, "memories") == 0


def test_a_key_for_the_other_door(
    gateway: str, tenant_key: str, admin_key: str, made_client: Callable[[str], Client]
) -> None:
    with closing(Admin(gateway, tenant_key)) as wrong:
        for call in (wrong.parked_page, wrong.strays_page):
            with pytest.raises(Forbidden):
                call()
        for decide in (wrong.retry_parked, wrong.drop_parked):
            with pytest.raises(Forbidden):
                decide(["0.1"])
    with pytest.raises(Forbidden):
        made_client(admin_key).parked_page()


def test_what_is_no_name(admin: Admin) -> None:
    for wrong in ([], ["x"], ["1"], ["1.2.3"], ["0.1"] * 1001):
        with pytest.raises(InvalidInput):
            admin.retry_parked(wrong)
    with pytest.raises(NotFound, match="no shard 99"):
        admin.drop_parked(["99.1"])
    with pytest.raises(NotFound):
        admin.parked_page(shard=99)


def test_a_node_that_is_down_is_named(lane: Lane, settings: Settings, admin_key: str) -> None:
    for n in range(12):
        parked_memories(lane, "tea", agent=f"agent-{n}")
    down = {shard.number for shard in lane.cluster.shards() if shard.node.name == "node-2"}
    nowhere = {**settings.nodes, "node-2": SecretStr("postgresql://127.0.0.1:1/nothing")}
    with (
        serving(settings.model_copy(update={"nodes": nowhere})) as url,
        closing(Admin(url, admin_key)) as admin,
    ):
        page = admin.parked_page(limit=100)
        assert set(page.missing) == down
        lived_in = {lane.cluster.shard_of("acme", f"agent-{n}") for n in range(12)}
        assert {job.shard for job in page.jobs} == lived_in - down != set()
        with pytest.raises(Unavailable):
            admin.retry_parked([f"{number}.1" for number in down])


def test_the_other_clients(lane: Lane, gateway: str, tenant_key: str) -> None:
    receipts = parked_memories(lane, "one", "two")
    memory: Front = InMemoryClient()
    assert list(memory.parked()) == []
    assert memory.retry_parked(receipts) == memory.drop_parked(receipts) == 0

    async def decide() -> None:
        async with AsyncClient(gateway, tenant_key) as client:
            assert {one.id async for one in client.parked(agent="ada")} == {one.id for one in receipts}
            assert await client.retry_parked(receipts[:1]) == 1
            assert await client.drop_parked(receipts) == 1

    asyncio.run(decide())
    assert ledger_of(lane.cluster, "acme").balanced


def sweep(settings: Settings, make_lane: Callable[[Settings], Lane]) -> None:
    """Sweep once, with the workers' rights."""
    Sweep(make_lane(as_role(settings, WORKER)), lambda _kind, _shard: True)()


def test_strays_are_seen_without_what_they_say(lane: Lane, admin: Admin) -> None:
    producers.deliver(lane, "memory.remember", {"tenant": "acme", "agent": "ada", "content": SECRET, "kind": 7}, "m1")
    producers.deliver(lane, "memory.forget", {"tenant": "no tenant!", "agent": SECRET}, "m2")
    first, second = sorted(admin.strays_page().strays, key=lambda stray: stray.task, reverse=True)
    assert (first.task, first.tenant, second.task, second.tenant) == (
        "memory.remember",
        "acme",
        "memory.forget",
        None,
    )
    assert "kind" in first.reason
    assert first.bytes > len(SECRET)
    assert SECRET not in json.dumps([repr(first), repr(second)])
    assert admin.strays_page(id=first.id).strays == admin.strays_page(tenant="acme").strays == (first,)
    assert admin.strays_page(task="memory.forget", limit=1).strays == (second,)


def test_a_message_that_comes_again_is_one_stray(lane: Lane, admin: Admin) -> None:
    bad = {"tenant": "acme", "items": [{"agent": "ada"}, {"agent": "ada"}, {"agent": "ada", "content": "tea"}]}
    for _ in range(2):
        producers.deliver(lane, "memory.remember", bad, "m1")
    assert len(admin.strays_page().strays) == 2
    producers.deliver(lane, "memory.remember", {**bad, "items": [{"agent": "bob"}]}, "m1")
    assert len(admin.strays_page().strays) == 3


def test_a_stray_that_is_good_by_now_is_taken_in(
    lane: Lane, admin: Admin, settings: Settings, make_lane: Callable[[Settings], Lane]
) -> None:
    """As when a conflict is gone, or a version knows a field that the one before refused."""
    producers.deliver(lane, "memory.remember", {"tenant": "acme", "agent": "ada", "content": "tea", "new": 1}, "m1")
    producers.deliver(lane, "memory.remember", {"tenant": "acme", "agent": "ada", "content": ""}, "m2")
    good, bad = admin.strays_page().strays
    with sql(settings, lane.cluster.shard(good.shard).node.name) as connection:
        connection.execute(
            f"UPDATE shard_{good.shard:02d}.strays SET payload = replace(payload, ', \"new\": 1', '')".encode()
        )
    assert admin.retry_strays([good.id, bad.id, uuid4()]) == 2
    assert admin.retry_strays([good.id, bad.id]) == 0
    assert {stray.waits_for for stray in admin.strays_page().strays} == {good.shard}
    assert admin.drop_strays([good.id]) == 0
    sweep(settings, make_lane)
    (still,) = admin.strays_page().strays
    assert (still.reason, still.waits_for, still.tenant) == (bad.reason, None, "acme")
    drain_all(lane, *GOOD)
    assert count_rows(settings, lane.cluster, "memories", "content = 'tea'") == 1
    balance = ledger_of(lane.cluster, "acme")
    assert (balance.events[Event.ACCEPTED], balance.events[Event.REJECTED], balance.balanced) == (1, 3, True)
    assert admin.drop_strays([still.id]) == 1
    assert admin.drop_strays([still.id]) == 0
    assert admin.strays_page().strays == ()
