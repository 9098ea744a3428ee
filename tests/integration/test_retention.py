"""Retention: what is kept for a time only goes when that is over; the ledger's sums are the same at every instant."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event as Signal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from memlane.beat.duty import Slice
from memlane.beat.retention import retention
from memlane.config.settings import Settings, load_settings
from memlane.contract import Event
from memlane.errors import Misconfigured, NodeDown
from memlane.storage import embedding_cache, ledger, progress, usage
from memlane.storage import retention as kept
from memlane.storage.cluster import Shard
from memlane.storage.embedding_cache import Text
from memlane.storage.hashing import text_hash
from memlane.tasks.lane import Lane
from tests.support import MakeSettings, count_rows, eventually, item, ledger_of, remembered, sql

LONG_S = 60.0


def append(settings: Settings, shard: Shard, rows: list[tuple[str, str, int, int]]) -> None:
    """Ledger rows: whose, what, how many, and how many hours ago."""
    with sql(settings, shard.node.name) as connection, connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {shard.schema}.ledger VALUES (%s, %s, %s, now() - make_interval(hours => %s))".encode(), rows
        )


def rows_of(settings: Settings, shard: Shard) -> list[tuple[object, ...]]:
    with sql(settings, shard.node.name) as connection:
        return connection.execute(
            f"SELECT tenant, event, count, at = 'epoch' FROM {shard.schema}.ledger ORDER BY 1, 2, at".encode()
        ).fetchall()


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["acme", "other"]),
        st.sampled_from(["accepted", "stored", "forgotten"]),
        st.integers(-5, 1000),
        st.integers(0, 24 * 70),
    ),
    max_size=60,
)


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(batches=st.lists(ROWS, max_size=3))
def test_the_sums_never_change(
    lane: Lane, settings: Settings, shard: Shard, batches: list[list[tuple[str, str, int, int]]]
) -> None:
    for batch in batches:
        append(settings, shard, batch)
        before = [ledger.sums(shard, tenant) for tenant in ("acme", "other", None)]
        retention(lane, Slice(LONG_S))
        assert [ledger.sums(shard, tenant) for tenant in ("acme", "other", None)] == before


def test_old_rows_become_one_for_each_tenant_event_and_day_and_then_one_for_all(
    lane: Lane, settings: Settings, shard: Shard
) -> None:
    append(settings, shard, [("acme", "stored", 1, 24 * day + 1) for day in (3, 3, 3, 40, 50, 60)])
    append(settings, shard, [("acme", "stored", 1, 1), ("acme", "stored", 1, 1)])
    assert "ledger 6" in retention(lane, Slice(LONG_S))
    assert rows_of(settings, shard) == [
        ("acme", "stored", 3, True),
        ("acme", "stored", 3, False),
        ("acme", "stored", 1, False),
        ("acme", "stored", 1, False),
    ]
    assert "ledger" not in retention(lane, Slice(LONG_S))
    assert lane.measures.now().counts['memlane_let_go_total{what="ledger"}'] == 6


def test_rows_that_lie_far_apart_are_put_together_too(
    lane: Lane, settings: Settings, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "PAGES", 1)
    append(settings, shard, [("acme", "stored", 1, 24 * 5)] * 1000)
    retention(lane, Slice(LONG_S))
    assert [count for _, _, count, _ in rows_of(settings, shard)] == [1000]


def test_readers_see_the_right_sums_while_others_append(lane: Lane, settings: Settings, shard: Shard) -> None:
    append(settings, shard, [("acme", "stored", 1, 24 * (2 + n % 50)) for n in range(3000)])
    over = Signal()
    wrong: list[int] = []

    def read() -> None:
        last = 3000
        while not over.is_set():
            found = ledger.sums(shard, "acme")["stored"]
            if found < last:  # one alone appends, and takes nothing away
                wrong.append(found)
            last = max(last, found)

    def write() -> None:
        for _ in range(50):
            ledger.note(shard, "acme", Event.STORED, 1)

    with ThreadPoolExecutor(3) as pool:
        reading = pool.submit(read)
        writing = pool.submit(write)
        both = [pool.submit(retention, lane, Slice(LONG_S))]
        retention(lane, Slice(LONG_S))
        writing.result()
        for one in both:
            one.result()
        over.set()
        reading.result()
    assert wrong == []
    assert ledger.sums(shard, "acme")["stored"] == 3050
    assert count_rows(settings, lane.cluster, "ledger") < 200


def test_what_is_old_goes_and_what_is_not_stays(lane: Lane, settings: Settings, shard: Shard) -> None:
    with sql(settings, shard.node.name) as connection:
        for days in (6, 8):
            connection.execute(
                f"INSERT INTO {shard.schema}.queries (agent, at, query_hash, ms, hits, cached)"
                f" VALUES (1, now() - interval '{days} days', '', 1, 1, true)".encode()
            )
        for days in (29, 31):
            connection.execute(
                f"INSERT INTO {shard.schema}.patterns (agent, query_hash, seen, last_at, found_at)"
                f" VALUES (1, '{days}', 3, now(), now() - interval '{days} days')".encode()
            )
    with sql(settings) as connection:
        for days in (6, 8, 89, 91, 399, 401):
            ago = f"now() - interval '{days} days'"
            connection.execute(
                f"INSERT INTO control.reports (at, score, report, figures) VALUES ({ago}, 1, '{{}}', '{{}}')".encode()
            )
            connection.execute(
                "INSERT INTO control.incidents (subject, component, level, title, detail, ended_at)"
                f" VALUES ('s', 'c', 'error', 't', 'd', {ago})".encode()
            )
            connection.execute(
                "INSERT INTO control.tunings (knob, before, after, why, metric, state, began_at, decided_at)"
                f" VALUES ('claim_size', 1, 2, 'w', 'm', 'kept', {ago}, {ago})".encode()
            )
        connection.execute(
            "INSERT INTO control.incidents (subject, component, level, title, detail, began_at)"
            " VALUES ('open', 'c', 'error', 't', 'd', now() - interval '500 days')"
        )
    retention(lane, Slice(LONG_S))
    with sql(settings) as connection:

        def left(table: str) -> int:
            ((count,),) = connection.execute(f"SELECT count(*) FROM control.{table}".encode()).fetchall()
            return int(count)

        assert {name: left(name) for name in kept.SHORT_LIVED} == {
            "reports": 1,
            "vacuums": 0,
            "incidents": 6,
            "tunings": 3,
        }
    assert count_rows(settings, lane.cluster, "queries") == 1
    assert count_rows(settings, lane.cluster, "patterns") == 1


def test_what_was_used_long_ago_stays_in_the_sums(lane: Lane, settings: Settings) -> None:
    with sql(settings) as connection:
        for days in (1, 399, 401, 500):
            connection.execute(
                "INSERT INTO control.usage (day, tenant, agent, model, requests, texts, cost)"
                f" VALUES (control.today() - {days}, 'acme', 'ada', 'm', 0.1, 3, 70)".encode()
            )
            connection.execute(
                "INSERT INTO control.spending (tenant, agent, period, starts, limit_micro)"
                f" VALUES ('acme', '', 'month', control.today() - {days}, 5)".encode()
            )
        before = usage.by_model(lane.cluster.control)
        assert "usage 2" in retention(lane, Slice(LONG_S))
        assert usage.by_model(lane.cluster.control) == before
        assert before["m"].texts == 12
        assert before["m"].requests == 0.4
        for table in ("usage", "spending"):
            assert connection.execute(f"SELECT count(*) FROM control.{table}".encode()).fetchall() == [(2,)]
        today = usage.yesterday(lane.cluster.control)
        assert usage.by_model(lane.cluster.control, since=today)["m"].texts == 3


def age_cache(settings: Settings, lane: Lane, days: int) -> None:
    for one in lane.cluster.shards():
        with sql(settings, one.node.name) as connection:
            connection.execute(
                f"UPDATE {one.schema}.embedding_cache SET used_at = now() - interval '{days} days'".encode()
            )


def test_embeddings_that_are_of_no_use_for_long_are_let_go(lane: Lane, settings: Settings) -> None:
    remembered(lane, item("tea"), item("coffee"))
    age_cache(settings, lane, 91)
    found = embedding_cache.find(lane.cluster, lane.model.name, [Text("acme", text_hash("tea"))])
    assert len(found) == 1
    eventually(lambda: count_rows(settings, lane.cluster, "embedding_cache", "used_at > now() - interval '1 day'") == 1)
    assert "embeddings 1" in retention(lane, Slice(LONG_S))
    assert count_rows(settings, lane.cluster, "embedding_cache") == 1
    age_cache(settings, lane, 91)
    retention(lane, Slice(LONG_S))  # it was gone through today
    assert count_rows(settings, lane.cluster, "embedding_cache") == 1


def test_embeddings_are_kept_for_good_where_that_is_set(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    settings = make_settings(embedding_cache_days="never")
    lane = make_lane(settings)
    remembered(lane, item("tea"))
    age_cache(settings, lane, 10_000)
    retention(lane, Slice(LONG_S))
    assert count_rows(settings, lane.cluster, "embedding_cache") == 1


def fade(settings: Settings, shard: Shard) -> None:
    """Have ada's memories be old: of five, one pinned, one used a moment ago, one used often and long ago."""
    with sql(settings, shard.node.name) as connection:
        connection.execute(f"UPDATE {shard.schema}.memories SET created_at = now() - interval '30 days'".encode())
        connection.execute(
            f"INSERT INTO {shard.schema}.memory_stats SELECT agent, number, 1, now(), 0.5"
            f" FROM {shard.schema}.memories WHERE content = 'used'".encode()
        )
        connection.execute(
            f"INSERT INTO {shard.schema}.memory_stats SELECT agent, number, 9, now() - interval '10 days', 1.0"
            f" FROM {shard.schema}.memories WHERE content = 'often'".encode()
        )


def test_nothing_fades_unless_that_is_set(lane: Lane, settings: Settings, shard: Shard) -> None:
    remembered(lane, item("one"))
    fade(settings, shard)
    retention(lane, Slice(LONG_S))
    assert count_rows(settings, lane.cluster, "memories") == 1


def test_what_has_faded_is_forgotten_and_what_is_pinned_or_used_stays(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_MEMORIES", 2)
    settings = make_settings(forget_below=0.2)
    lane = make_lane(settings)
    remembered(lane, item("one"), item("two"), item("pinned", pinned=True), item("used"), item("often"))
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    fade(settings, shard)  # unused: 0.5 * 0.995 ** 720 = 0.014; often: 0.995 ** 240 = 0.3
    assert "faded 2" in retention(lane, Slice(LONG_S))
    left = [f"content = '{word}'" for word in ("one", "two", "pinned", "used", "often")]
    assert [count_rows(settings, lane.cluster, "memories", where) for where in left] == [0, 0, 1, 1, 1]
    found = ledger_of(lane.cluster, "acme")
    assert found.events[Event.EXPIRED] == 2
    assert found.balanced


def test_a_slice_that_is_over_is_said_and_the_next_goes_on(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_MEMORIES", 1)
    settings = make_settings(forget_below=0.2)
    lane = make_lane(settings)
    remembered(lane, *(item(f"memory {n}") for n in range(4)))
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    fade(settings, shard)
    progress.keep(lane.cluster.control, "retention", f"faded {shard.number}", [1, 2])
    assert retention(lane, Slice(0.0)) == "the slice was too short"
    retention(lane, Slice(LONG_S))
    assert count_rows(settings, lane.cluster, "memories") == 2


def test_the_ledger_goes_on_where_it_was_and_keeps_nothing_from_its_turn(
    lane: Lane, settings: Settings, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "PAGES", 1)
    append(settings, shard, [("acme", "stored", 1, 24 * 5)] * 1000)
    pages, began = [], kept.compact_ledger

    def first_page_alone(on: Shard, page: int) -> int:
        if on.number == shard.number:
            pages.append(page)
        if len(pages) == 2:
            raise NodeDown("it is slow")
        return began(on, page)

    monkeypatch.setattr(kept, "compact_ledger", first_page_alone)
    retention(lane, Slice(LONG_S))
    retention(lane, Slice(LONG_S))
    assert pages[:3] == [0, 1, 1]
    assert [count for _, _, count, _ in rows_of(settings, shard)] == [1000]
    assert "ledger" not in retention(lane, Slice(LONG_S))


def test_a_shard_that_is_down_holds_the_others_up_no_longer(lane: Lane, settings: Settings) -> None:
    for one in lane.cluster.shards():
        append(settings, one, [("acme", "stored", 1, 24 * 5)] * 2)
    lane.cluster.nodes["node-2"].close()
    retention(lane, Slice(LONG_S))
    left = [2 if one.node.name == "node-2" else 1 for one in lane.cluster.shards()]
    assert count_rows(settings, lane.cluster, "ledger") == sum(left)


@pytest.mark.parametrize(
    ("name", "value"), [("forget_below", 1.5), ("usage_days", 30), ("embedding_cache_days", 0), ("vacuum_rows", 0)]
)
def test_settings_out_of_bounds_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(Misconfigured, match=f"MEMLANE_{name.upper()}"):
        load_settings(**{name: value})
