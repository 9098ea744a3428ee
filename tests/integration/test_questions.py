"""The query log, the patterns found in it, and what is made ready by them, with the workers' rights alone."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlane.beat import query_patterns as patterns_duty
from memlane.beat.duty import Slice
from memlane.beat.query_patterns import query_patterns
from memlane.beat.retention import retention
from memlane.beat.warm_cache import warm_cache
from memlane.config.settings import Settings
from memlane.errors import ProviderRefused
from memlane.storage import agents, asked, embedding_cache, memories, patterns, warm
from memlane.storage.asked import Asked
from memlane.storage.cluster import Shard
from memlane.storage.embedding_cache import Cached, Text
from memlane.storage.jobs import Kind
from memlane.storage.roles import GATEWAY, WORKER
from memlane.storage.warm import Choice, Worth
from memlane.storage.wording import cache_key, normalised, question_hash
from memlane.tasks import forget, warming
from memlane.tasks.embedders import Embedding
from memlane.tasks.embedders.hash import HashEmbedder
from memlane.tasks.lane import Lane
from tests.conftest import SHARDS
from tests.support import accepted, as_role, asks, count_rows, drain_all, eventually, item, remembered, sql

MakeLane = Callable[[Settings], Lane]

A_WHILE = 60.0
"""A slice that does for everything here."""

CHOICE = Choice(20, 7 * 86_400.0, 0.3, (0.4, 0.3, 0.3))


@pytest.fixture
def worker(settings: Settings, make_lane: MakeLane) -> Lane:
    """A lane with the workers' rights."""
    return make_lane(as_role(settings, WORKER))


@pytest.fixture
def door(settings: Settings, make_lane: MakeLane) -> Lane:
    """A lane with the gateway's rights."""
    return make_lane(as_role(settings, GATEWAY))


def question(agent: int, text: str, *, mark: int = 0, age_s: float = 0.0, kept: bool = True) -> Asked:
    query = normalised(text) if kept else None
    spelt = text if kept and text != query else None
    return Asked(agent, mark, question_hash(text), query, spelt, age_s, 12.5, 3, cached=False)


def agent_of(lane: Lane, name: str = "ada") -> tuple[Shard, int]:
    """Where an agent is, and its number; one that is not known yet is given a memory."""
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", name))
    if agents.find(shard, "acme", name, "hash") is None:
        accepted(lane, item(agent=name))
    found = agents.find(shard, "acme", name, "hash")
    assert found is not None
    return shard, found.number


def ask(door: Lane, text: str, times: int = 1, name: str = "ada", *, kept: bool = True) -> None:
    shard, number = agent_of(door, name)
    found = agents.find(shard, "acme", name, "hash")
    assert found is not None
    row = question(number, text, mark=found.forgotten_before, kept=kept)
    assert asked.log(shard, [row] * times) == times


def seen(lane: Lane, name: str = "ada") -> dict[str | None, int]:
    shard, _ = agent_of(lane, name)
    return {one.query: one.seen for one in patterns.of(shard, "acme", name) or ()}


def keys(lane: Lane, *texts: str) -> int:
    """How many of these questions the cache knows."""
    names = [Text("acme", cache_key(question_hash(text))) for text in texts]
    return len(embedding_cache.find(lane.cluster, lane.model.name, names))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  What does\n\tShe  drink? ", "what does she drink?"),
        ("\uff34\uff25\uff21\u3000\uff4f\uff52 \ufb01ne coffee", "tea or fine coffee"),
        ("Straße", "strasse"),
        ("Cafe\u0301", "caf\u00e9"),
        ("喜欢什么\uff1f", "喜欢什么?"),
        ("what\u00a0now", "what now"),
    ],
)
def test_a_question_is_the_same_however_it_is_spelt(text: str, plain: str) -> None:
    assert normalised(text) == plain
    assert question_hash(text) == question_hash(plain) != question_hash(f"{plain} not")


@given(st.text())
def test_whatever_is_asked_is_normalised_to_what_postgres_takes(text: str) -> None:
    plain = normalised(text)
    plain.encode()
    assert plain == plain.strip()
    assert question_hash(text.replace(" ", "  ")) == question_hash(text)


def test_frequent_questions_become_patterns(worker: Lane, door: Lane) -> None:
    for _ in range(6):
        ask(door, "What does she drink?")
    ask(door, "what does SHE drink?")
    ask(door, "seldom", 5)
    ask(door, "for bob", 9, name="bob")
    assert query_patterns(worker, Slice(A_WHILE)) == "2 patterns of 2 agents that were asked"
    assert worker.measures.now().counts["memlane_patterns_total"] == 2
    assert seen(door) == {"What does she drink?": 7}
    assert seen(door, "bob") == {"for bob": 9}


def test_only_the_last_questions_count(worker: Lane, door: Lane) -> None:
    ask(door, "old", 50)
    ask(door, "new", 60)
    ask(door, "newer", 38)
    query_patterns(worker, Slice(A_WHILE))
    assert seen(door) == {"new": 60, "newer": 38}
    ask(door, "newest", 97)
    query_patterns(worker, Slice(A_WHILE))
    assert seen(door) == {"newest": 97}


def test_only_agents_that_were_asked_since_are_looked_at(worker: Lane, door: Lane, settings: Settings) -> None:
    ask(door, "tea?", 7)
    ask(door, "tea?", 7, name="bob")
    query_patterns(worker, Slice(A_WHILE))
    for shard in worker.cluster.shards():
        with sql(settings, shard.node.name) as connection:
            connection.execute(f"UPDATE {shard.schema}.queries SET at = at - interval '2 minutes'".encode())
    ask(door, "milk?", 8)
    assert query_patterns(worker, Slice(A_WHILE)) == "2 patterns of 1 agents that were asked"
    assert seen(door) == {"tea?": 7, "milk?": 8}
    assert seen(door, "bob") == {"tea?": 7}


def test_a_slice_that_is_too_short_goes_on_where_it_was(
    worker: Lane, door: Lane, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns_duty, "_AT_ONCE", 1)
    names = [name for name in map(str, range(99)) if worker.cluster.shard_of("acme", name) == 0][:5]
    for name in names:
        ask(door, "tea?", 7, name=name)

    class Short(Slice):
        """Over after each statement, but not before the first."""

        looks = 0

        @property
        def over(self) -> bool:
            self.looks += 1
            return self.looks > 1

    found: list[int] = []
    while not found or found[-1] < len(names):
        query_patterns(worker, Short(A_WHILE))
        found.append(count_rows(settings, worker.cluster, "patterns"))
        assert len(found) <= SHARDS * (len(names) + 1)
    assert sorted(set(found) - {0}) == [1, 2, 3, 4, 5], "each goes on where the one before stopped"


def test_two_at_once_find_the_same(worker: Lane, door: Lane, make_lane: MakeLane, settings: Settings) -> None:
    for number in range(8):
        for text in ("tea?", "milk?"):
            ask(door, text, 7, name=f"agent-{number}")
    other = make_lane(as_role(settings, WORKER))
    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(query_patterns, lane, Slice(A_WHILE)) for lane in (worker, other)]
            for one in both:
                assert one.result().startswith("16 patterns of 8")
    assert count_rows(settings, worker.cluster, "patterns", "seen = 7") == 16


def test_without_texts_patterns_are_known_by_their_hash(worker: Lane, door: Lane, settings: Settings) -> None:
    ask(door, "secret tea?", 7, kept=False)
    query_patterns(worker, Slice(A_WHILE))
    found = patterns.of(agent_of(door)[0], "acme", "ada")
    assert found is not None
    (pattern,) = found
    assert (pattern.query, pattern.seen, pattern.hash) == (None, 7, question_hash("secret tea?").hex())
    assert warm_cache(worker, Slice(A_WHILE)).startswith("0 questions")
    assert count_rows(settings, worker.cluster, "queries", "query IS NOT NULL OR spelt IS NOT NULL") == 0


def test_who_forgets_an_agent_forgets_what_it_was_asked(worker: Lane, door: Lane, settings: Settings) -> None:
    for name in ("ada", "bob"):
        ask(door, "tea?", 7, name=name)
        ask(door, f"of {name}?", 7, name=name)
    query_patterns(worker, Slice(A_WHILE))
    warm_cache(worker, Slice(A_WHILE))
    assert keys(worker, "tea?", "of ada?", "of bob?") == 3
    assert forget.forget_agent(door, "acme", "ada")
    assert seen(door) == {}, "at once, before any drain"
    query_patterns(worker, Slice(A_WHILE))
    assert seen(door) == {}, "nobody learns from what is to be removed"
    drain_all(worker, Kind.FORGET)
    assert count_rows(settings, worker.cluster, "queries") == 14
    assert count_rows(settings, worker.cluster, "patterns") == 2
    assert keys(worker, "of ada?") == 0
    assert keys(worker, "of bob?") == 1
    query_patterns(worker, Slice(A_WHILE))
    assert seen(door) == {}
    ask(door, "again?", 6)
    query_patterns(worker, Slice(A_WHILE))
    assert seen(door) == {"again?": 6}, "it may be asked again afterwards"


def test_a_pattern_that_is_forgotten_takes_its_vector_along_though_its_log_is_gone(
    worker: Lane, door: Lane, settings: Settings
) -> None:
    shard, _ = agent_of(door)
    ask(door, "tea?", 7)
    query_patterns(worker, Slice(A_WHILE))
    warm_cache(worker, Slice(A_WHILE))
    with sql(settings, shard.node.name) as connection:
        connection.execute(f"DELETE FROM {shard.schema}.queries".encode())
    assert forget.forget_agent(door, "acme", "ada")
    assert seen(door) == {}
    assert patterns.page(shard, (0, b""), 10) == [], "nobody makes its vector again"
    assert keys(worker, "tea?") == 1
    drain_all(worker, Kind.FORGET)
    assert keys(worker, "tea?") == count_rows(settings, worker.cluster, "patterns") == 0


def test_the_vector_of_a_question_goes_with_its_log_unless_somebody_needs_it(
    worker: Lane, door: Lane, settings: Settings
) -> None:
    texts = ["once?", "asked by another?", "pattern?"]
    for text in texts[:2]:
        ask(door, text)
    ask(door, "pattern?", 7)
    query_patterns(worker, Slice(A_WHILE))
    vector = HashEmbedder(worker.model).embed(["x"]).vectors[0]
    kept = {Text("acme", cache_key(question_hash(text))): Cached(vector) for text in texts}
    embedding_cache.keep(worker.cluster, worker.model.name, kept)
    old = "now() - interval '8 days'"
    for shard in worker.cluster.shards():
        with sql(settings, shard.node.name) as connection:
            connection.execute(f"UPDATE {shard.schema}.queries SET at = {old}".encode())
            connection.execute(
                f"UPDATE {shard.schema}.embedding_cache SET used_at = {old} WHERE content_hash <> %s".encode(),
                [cache_key(question_hash("asked by another?"))],
            )
    assert "queries 9" in retention(worker, Slice(A_WHILE))
    assert [keys(worker, text) for text in texts] == [0, 1, 1]


def test_what_is_logged_late_is_not_logged(worker: Lane, door: Lane, settings: Settings) -> None:
    shard, number = agent_of(door)
    _, bob = agent_of(door, "bob")
    late = question(number, "late secret?")
    assert forget.forget_agent(door, "acme", "ada")
    drain_all(worker, Kind.FORGET)
    assert asked.log(shard, [late]) == 0
    assert count_rows(settings, worker.cluster, "queries") == 0
    assert bob


def test_logging_and_forgetting_at_the_same_moment(worker: Lane, door: Lane, settings: Settings) -> None:
    """Again and again: what was answered before the forget is gone, whichever comes first."""
    shard, number = agent_of(door)
    for _ in range(15):
        found = agents.find(shard, "acme", "ada", "hash")
        assert found is not None
        rows = [question(number, "secret?", mark=found.forgotten_before)] * 20
        go = Event()

        def log(rows: Sequence[Asked] = rows, go: Event = go) -> int:
            go.wait()
            return asked.log(shard, rows)

        def learn(go: Event = go) -> str:
            go.wait()
            return query_patterns(worker, Slice(A_WHILE))

        with ThreadPoolExecutor(2) as pool:
            logging, learning = pool.submit(log), pool.submit(learn)
            go.set()
            forget.forget_agent(door, "acme", "ada")
            drain_all(worker, Kind.FORGET)
            logging.result()
            learning.result()
        assert count_rows(settings, worker.cluster, "queries") == 0
        assert count_rows(settings, worker.cluster, "patterns") == 0


class Counting(HashEmbedder):
    """Counts what it is asked; refuses all while it is down."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane.model)
        self.texts: list[str] = []
        self.down = False

    def embed(self, texts: Sequence[str]) -> Embedding:
        if self.down:
            raise ProviderRefused("down", 0.01)
        self.texts += texts
        return super().embed(texts)


def test_only_what_the_cache_lacks_is_embedded_as_it_is_asked_most(worker: Lane, door: Lane) -> None:
    ask(door, "What does she drink?", 6)
    ask(door, "WHAT does she drink?", 2)
    ask(door, "known?", 7)
    ask(door, "What does she drink?", 7, name="bob")
    known = Text("acme", cache_key(question_hash("known?")))
    embedding_cache.keep(
        worker.cluster, "hash", {known: Cached(HashEmbedder(worker.model).embed(["known?"]).vectors[0])}
    )
    query_patterns(worker, Slice(A_WHILE))
    embedder = Counting(worker)
    asks(worker, embedder)
    warm_cache(worker, Slice(A_WHILE))
    assert embedder.texts == ["What does she drink?"], "of two agents, once"
    assert warm_cache(worker, Slice(A_WHILE)).startswith("0 questions")
    assert len(embedder.texts) == 1
    assert keys(worker, "what does she drink?", "known?") == 2


def test_a_provider_that_is_down_harms_nothing(worker: Lane, door: Lane) -> None:
    embedder = Counting(worker)
    embedder.down = True
    asks(worker, embedder)
    ask(door, "tea?", 7)
    query_patterns(worker, Slice(A_WHILE))
    assert warm_cache(worker, Slice(A_WHILE)).startswith("0 questions embedded, 1 refused")
    embedder.down = False
    eventually(lambda: warm_cache(worker, Slice(A_WHILE)).startswith("1 questions embedded;"))
    assert keys(worker, "tea?") == 1


def test_a_budget_that_is_spent_is_no_error_and_stops_nobody_else(worker: Lane, door: Lane, settings: Settings) -> None:
    with sql(settings) as connection:
        connection.execute("UPDATE control.prices SET micro_per_million = 1000000000 WHERE model = 'hash'")
        connection.execute("INSERT INTO control.tenants (tenant) VALUES ('acme')")
        connection.execute("SELECT control.set_budget('acme', 'ada', 'day', 1, 'defer')")
    ask(door, "of ada?", 7)
    ask(door, "of bob?", 7, name="bob")
    query_patterns(worker, Slice(A_WHILE))
    assert warm_cache(worker, Slice(A_WHILE)).startswith("1 questions embedded, 1 refused")
    assert (keys(worker, "of ada?"), keys(worker, "of bob?")) == (0, 1)
    with sql(settings) as connection:
        connection.execute("SELECT control.set_budget('acme', 'ada', 'day', 1000000000, 'defer')")
    assert warm_cache(worker, Slice(A_WHILE)).startswith("1 questions embedded;")
    assert keys(worker, "of ada?") == 1


@contextmanager
def node_down(settings: Settings, node: str) -> Iterator[None]:
    """Nobody may connect to a node's database."""
    with sql(settings) as here, sql(settings, node) as there:
        name = there.info.dbname
        here.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
    with sql(settings) as here:
        here.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        yield
        here.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


def test_a_node_that_is_down_is_skipped_and_pays_for_nothing(worker: Lane, door: Lane, settings: Settings) -> None:
    names = {worker.cluster.shard(worker.cluster.shard_of("acme", name)).node.name: name for name in map(str, range(9))}
    for name in names.values():
        for number in range(8):
            ask(door, f"question {number}?", 7, name=name)
    query_patterns(worker, Slice(A_WHILE))
    embedder = Counting(worker)
    asks(worker, embedder)
    with node_down(settings, "node-2"):
        warm_cache(worker, Slice(A_WHILE))
        assert query_patterns(worker, Slice(A_WHILE)).endswith("of 1 agents that were asked")
        before = len(embedder.texts)
        assert 0 < before < 8, "those of which it is known that they are missing"
        warm_cache(worker, Slice(A_WHILE))
        assert len(embedder.texts) == before
    eventually(lambda: warm_cache(worker, Slice(A_WHILE)) is not None and len(embedder.texts) == 8)


def numbers_of(shard: Shard, settings: Settings) -> list[int]:
    with sql(settings, shard.node.name) as connection:
        rows = connection.execute(f"SELECT number FROM {shard.schema}.memories ORDER BY number".encode()).fetchall()
    return [number for (number,) in rows]


def test_what_is_worth_being_read_ahead(worker: Lane, door: Lane, settings: Settings) -> None:
    importances = (0.1, 0.9, 0.5, 0.9, 0.9, 0.5)
    remembered(worker, *(item(f"memory {n}", importance=value) for n, value in enumerate(importances)))
    shard, agent = agent_of(door)
    plain, important, often, faded, old, never = numbers_of(shard, settings)
    used = {plain: 1, important: 1, often: 100, faded: 1, old: 1}
    with sql(settings, shard.node.name) as connection:
        for number, count in used.items():
            connection.execute(
                f"INSERT INTO {shard.schema}.memory_stats (agent, number, access_count, last_accessed_at, resonance)"
                " VALUES (%s, %s, %s, now() - make_interval(hours => %s), %s)".encode(),
                (agent, number, count, {faded: 110, old: 169}.get(number, 0), 0.9 if number == old else 0.5),
            )
    (found,) = warm.worth(shard, [agent], CHOICE)
    # often: 0.2 + 0.15 + 0.3; important: 0.36 + 0.15 + 0.3 * ln 2 / ln 101; faded has 0.5 * 0.995 ** 110 = 0.288.
    assert found == Worth(agent, "ada", "acme", [often, important, plain])
    assert never not in found.memories
    (two,) = warm.worth(shard, [agent], Choice(2, 7 * 86_400.0, 0.0, (1.0, 0.0, 0.0)))
    assert two.memories == [faded, important]
    (longer,) = warm.worth(shard, [agent], Choice(20, 8 * 86_400.0, 0.3, (0.4, 0.3, 0.3)))
    assert old in longer.memories


def test_memories_of_agents_that_were_asked_lately_are_read(worker: Lane, door: Lane, settings: Settings) -> None:
    remembered(worker, *(item(f"of {name}", agent=name) for name in ("ada", "bob", "eve")))
    for name in ("ada", "bob", "eve"):
        shard, agent = agent_of(door, name)
        (number,) = list(_stored(shard, settings, agent))
        memories.count_accesses(shard, {(agent, number): 1})
    ask(door, "tea?", name="ada")
    shard, bob = agent_of(door, "bob")
    asked.log(shard, [question(bob, "tea?", age_s=2 * 86_400.0)])
    assert warm_cache(worker, Slice(A_WHILE)).endswith("1 memories of 1 agents read")
    assert warm_cache(worker, Slice(0.0)).endswith("0 memories of 0 agents read")


def _stored(shard: Shard, settings: Settings, agent: int) -> Iterator[int]:
    with sql(settings, shard.node.name) as connection:
        yield from (
            number
            for (number,) in connection.execute(
                f"SELECT number FROM {shard.schema}.memories WHERE agent = {agent}".encode()
            ).fetchall()
        )


def test_what_was_forgotten_meanwhile_is_not_read(worker: Lane, door: Lane, settings: Settings) -> None:
    (receipt, _) = remembered(worker, item("one"), item("two"))
    shard, agent = agent_of(door)
    numbers = numbers_of(shard, settings)
    ada = Worth(agent, "ada", "acme", numbers)
    forget.forget_memory(worker, "acme", "ada", receipt.id)
    assert warming.preload(worker, shard, ada, numbers) == 1
    forget.forget_agent(worker, "acme", "ada")
    assert warming.preload(worker, shard, ada, numbers) == 0
    assert warm.worth(shard, [agent], CHOICE) == []
