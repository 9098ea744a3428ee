"""Spans of a whole system: from a caller's trace through a gateway and the queue to a worker, at a real collector."""

import signal
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import SecretStr

from memlane.config.settings import Settings
from memlane.tasks.lane import Lane
from memlane.workers.app import make_app
from tests.collector import Collector, collecting
from tests.local import LocalProcess, WorkerProcess
from tests.support import accepted, count_rows, eventually, item

CANARY = "kanarienvogel-3c80"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("broker", ["redis"], indirect=True),
]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Where the processes of a test send their spans, often."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "memlane-under-test")
    with collecting() as made:
        yield made


@pytest.fixture
def cluster_settings(cluster_settings: Settings, collector: Collector) -> Settings:
    """The settings of the test's cluster, which traces."""
    return cluster_settings.model_copy(update={"otel_endpoint": SecretStr(collector.url)})


@pytest.fixture
def http(gateway: str, keys: tuple[str, str]) -> Iterator[httpx.Client]:
    """A caller that is in a trace of its own."""
    headers = {"Authorization": f"Bearer {keys[0]}", "traceparent": CALLER}
    with httpx.Client(base_url=gateway, headers=headers, timeout=30) as client:
        yield client


def context(span: Span) -> tuple[str, str]:
    return span.trace_id.hex(), span.span_id.hex()


def of_callers_trace(span: Span) -> bool:
    _, trace, parent, _ = CALLER.split("-")
    return (span.trace_id.hex(), span.parent_span_id.hex()) == (trace, parent)


def error_type(span: Span) -> list[str]:
    return [attribute.value.string_value for attribute in span.attributes if attribute.key == "error.type"]


def test_a_worker_that_ends_sends_what_is_left(
    start_worker: Callable[..., WorkerProcess],
    cluster_settings: Settings,
    door: Lane,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    worker = start_worker("ingest", "memory,remember,embed", 1)
    accepted(door, item(agent=CANARY))
    eventually(lambda: count_rows(cluster_settings, door.cluster, "memories") == 1, 60)
    assert collector.raw == []
    worker.kill(signal.SIGTERM)
    assert worker.wait() == 0
    assert len(collector.spans("drain.remember")) == 1


def test_a_duty_is_an_operation(
    start_worker: Callable[..., WorkerProcess], start_beat: Callable[[], LocalProcess], collector: Collector
) -> None:
    start_worker("sweep", "sweep", 1)
    start_beat()
    eventually(lambda: bool(collector.spans("beat.sweep")), 60)


def test_a_trace_goes_through_the_system(
    start_worker: Callable[..., WorkerProcess], http: httpx.Client, cluster_settings: Settings, collector: Collector
) -> None:
    worker = start_worker("ingest", "memory,remember,embed", 1)
    names = dict.fromkeys(("agent", "key", "speaker", "thread"), CANARY)
    receipt = http.post("/v1/memories", json={"content": CANARY, **names}).raise_for_status().json()
    memory = f"/v1/memories/{CANARY}/{receipt['id']}"
    eventually(lambda: http.get(memory).status_code == 200, 60)
    http.post("/v1/recall", json={"agent": CANARY, "query": f"who is {CANARY}?"}).raise_for_status()
    http.patch(memory, json={"importance": 0.9}).raise_for_status()
    http.delete(memory).raise_for_status()
    assert http.delete(f"/v1/memories/{CANARY}/{uuid4()}").status_code == 404
    make_app(cluster_settings).send_task(
        "memory.remember",
        kwargs={"tenant": "acme", "agent": CANARY, "content": CANARY},
        headers={"traceparent": CALLER},
    )
    asked = {
        "remember": 1,
        "drain.remember": 2,
        "recall": 1,
        "search": 1,
        "update": 1,
        "forget": 2,
        "memory.remember": 1,
        "embed": 2,
    }
    eventually(lambda: all(len(collector.spans(name)) >= count for name, count in asked.items()), 60)

    for name in ("remember", "recall", "update", "forget", "memory.remember"):
        assert all(of_callers_trace(span) for span in collector.spans(name)), name
    (remember,), (message,) = collector.spans("remember"), collector.spans("memory.remember")
    drains = collector.spans("drain.remember")
    links = {(link.trace_id.hex(), link.span_id.hex()) for span in drains for link in span.links}
    assert {context(remember), context(message)} == links
    assert all(not span.parent_span_id for span in drains)
    (recall,), (search,) = collector.spans("recall"), collector.spans("search")
    assert (search.trace_id.hex(), search.parent_span_id.hex()) == context(recall)
    parents = {(span.trace_id.hex(), span.parent_span_id.hex()) for span in collector.spans("embed")}
    assert parents == {context(recall), *(context(span) for span in drains)}
    forgets = collector.spans("forget")
    assert [error_type(span) for span in forgets] == [[], ["NotFound"]]
    assert {span.status.code for span in forgets} == {Status.STATUS_CODE_UNSET}
    assert collector.services == {"memlane-under-test"}

    worker.kill(signal.SIGTERM)
    assert worker.wait() == 0
    assert CANARY.encode() not in b"".join(collector.raw)
    assert b"acme" not in b"".join(collector.raw)
