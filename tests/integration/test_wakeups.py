"""Wake-ups: a shard with much to do has one under way, however many were sent for it."""

from collections import deque
from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
import redis

from memlane.config.settings import Settings
from memlane.embedded.redis import Redis
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Done, Kind
from memlane.tasks.lane import Lane
from memlane.workers import drains
from memlane.workers.drains import Process
from memlane.workers.marks import Marks, NoMarks, RedisMarks, Turn
from memlane.workers.returns import Returns
from memlane.workers.wakeups import Wakeups
from tests.support import accepted, eventually, item


@pytest.fixture
def marks(redis_server: Redis) -> Iterator[RedisMarks]:
    with redis.Redis.from_url(redis_server.uri(1)) as client:
        client.flushdb()
    yield RedisMarks(redis_server.uri(1), 60.0)
    with redis.Redis.from_url(redis_server.uri(1)) as client:
        client.flushdb()


def test_a_mark_goes_with_its_own_wake_up(marks: RedisMarks) -> None:
    first = marks.set("drain.remember", 3)
    assert first is not None
    assert marks.set("drain.remember", 3) is None
    assert marks.set("drain.remember", 4) is not None
    second = marks.renew("drain.remember", 3)
    marks.clear("drain.remember", 3, first)
    assert marks.set("drain.remember", 3) is None, "the second is still under way"
    marks.clear("drain.remember", 3, second)
    third = marks.set("drain.remember", 3)
    assert third is not None
    marks.clear("drain.remember", 3)
    assert marks.set("drain.remember", 3) is not None, "an older version named none"


def test_without_redis_every_wake_up_is_sent() -> None:
    nobody: Marks = NoMarks()
    assert nobody.set("drain.remember", 3) != nobody.set("drain.remember", 3)
    for way in (RedisMarks("redis://127.0.0.1:1/0", 5.0), nobody):
        assert way.set("drain.remember", 3)
        assert way.renew("drain.remember", 3)
        way.clear("drain.remember", 3, "a")


def test_a_wake_up_that_was_taken_up_is_not_done_again(marks: RedisMarks) -> None:
    first, second = marks.set("drain.remember", 3), marks.set("drain.remember", 4)
    assert first
    assert second
    assert marks.take_up("drain.remember", [1, 4]) == [4]
    assert marks.take_up("drain.remember", [1, 4]) == []
    third = marks.set("drain.remember", 4)
    assert third, "what comes from now on wakes somebody"
    assert not marks.clear("drain.remember", 4, second)
    assert marks.clear("drain.remember", 4, second), "it is said once"
    assert marks.clear("drain.remember", 4, third)
    assert marks.clear("drain.remember", 3, first)


def test_one_gathers_on_a_node(marks: RedisMarks) -> None:
    assert marks.gather("drain.remember", "node-1", "a") is Turn.OURS
    assert marks.gather("drain.remember", "node-2", "b") is Turn.OURS
    assert marks.gather("drain.remember", "node-1", "c") is Turn.OTHERS
    marks.gathered("drain.remember", "node-1", "c")
    assert marks.gather("drain.remember", "node-1", "c") is Turn.OTHERS, "only who has the turn gives it back"
    marks.gathered("drain.remember", "node-1", "a")
    assert marks.gather("drain.remember", "node-1", "c") is Turn.OURS
    taken = marks.set("drain.remember", 3)
    assert taken
    assert marks.take_up("drain.remember", [3]) == [3]
    assert marks.gather("drain.remember", "node-1", taken) is Turn.TAKEN_UP


def test_small_claims_of_a_node_are_worked_on_together(
    settings: Settings, make_lane: Callable[[Settings], Lane], marks: RedisMarks
) -> None:
    """One request to the provider for all shards of a node; a claim that fails harms no other's."""
    queue = Queue()
    lane = make_lane(settings)
    lane.wake = Wakeups(queue, marks)
    asked: list[int] = []
    embed = lane.provider.embed
    lane.provider.embed = lambda wanted, patience_s: asked.append(len(wanted)) or embed(wanted, patience_s)  # type: ignore[method-assign,func-returns-value]
    names = [f"agent-{number}" for number in range(40)]
    accepted(lane, *(item(f"tea for {name}", agent=name) for name in names))
    eventually(lambda: len(queue.waiting) == 4)
    by_node: dict[str | None, list[int]] = {}
    for number, _ in queue.waiting:
        by_node.setdefault(lane.cluster.node_of(number), []).append(number)
    broken = by_node["node-2"][-1]
    with psycopg.connect(settings.nodes["node-2"].get_secret_value(), autocommit=True) as connection:
        connection.execute(f"""UPDATE shard_{broken:02d}.jobs SET payload = '"bad"'""".encode())
    process = Process(lane, marks, f"test:{uuid4()}", lambda: False, Returns(lane.cluster))
    done = [drains.drain(process, "drain.remember", *queue.waiting.popleft()) for _ in range(4)]
    healthy = {node for node, numbers in by_node.items() if set(numbers) - {broken}}
    assert len([count for count in asked if count]) == len(healthy)
    bad = sum(lane.cluster.shard_of("acme", name) == broken for name in names)
    assert 0 < bad <= sum(one.failed for one in done)
    assert sum(one.stored for one in done) == sum(one.searchable for one in done) == 40 - bad
    assert Done() in done, "what was taken up is not done again"


class Queue:
    """A queue, in the place of a broker: what was sent, in its order."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, str]] = deque()

    def send_task(self, _name: str, args: tuple[int], kwargs: dict[str, str]) -> None:
        self.waiting.append((args[0], kwargs["wakeup"]))


def test_wake_ups_that_are_one_too_many_do_not_go_round(
    settings: Settings, make_lane: Callable[[Settings], Lane], marks: RedisMarks, shard: Shard
) -> None:
    """Five sweeps have woken a shard; while it has work, one wake-up is left of them."""
    queue = Queue()
    lane = make_lane(settings.model_copy(update={"claim_size": 5, "slice_s": 1e-9}))
    wake = Wakeups(queue, marks)
    lane.wake = wake
    process = Process(lane, marks, f"test:{uuid4()}", lambda: False, Returns(lane.cluster))
    accepted(lane, *(item(f"tea {number}") for number in range(100)))
    for _ in range(5):
        wake.send(Kind.REMEMBER, shard.number)
    eventually(lambda: len(queue.waiting) >= 5)
    for _ in range(12):
        number, name = queue.waiting.popleft()
        drains.drain(process, "drain.remember", number, name)
        eventually(lambda: bool(queue.waiting))
    assert len(queue.waiting) == 1
