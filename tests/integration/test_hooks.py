"""The hooks that come with memlane, around real work: spans over a real queue, figures in a real socket, no content."""

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from uuid import uuid4

import pytest
import redis
from celery import Celery
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import SecretStr
from structlog.testing import capture_logs

from memlane.config.settings import Settings
from memlane.contract.memory import MemoryItem
from memlane.embedded.redis import Redis
from memlane.errors import ProviderRefused
from memlane.storage.jobs import Kind
from memlane.tasks import producers
from memlane.tasks.embedders import Embedding
from memlane.tasks.embedders.hash import HashEmbedder
from memlane.tasks.hooks import TRACEPARENT, Operation
from memlane.tasks.hooks.opentelemetry import OpenTelemetry, make
from memlane.tasks.lane import Lane
from memlane.workers import drains
from memlane.workers.app import make_app
from memlane.workers.marks import NoMarks
from memlane.workers.wakeups import Wakeups
from tests.collector import collecting
from tests.support import MakeSettings, accepted, asks, drain_all, eventually, item, process_of

CANARY = "kanarienvogel-7d21"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""The example of W3C's recommendation."""


def canary() -> MemoryItem:
    """A memory with a canary in each of its fields."""
    names = dict.fromkeys(("agent", "key", "speaker", "thread"), CANARY)
    return item(f"the {CANARY} sings", **names, metadata={"note": CANARY})


class Spans:
    """The spans of this process that have ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    @property
    def text(self) -> str:
        """All that would be sent."""
        return "".join(span.to_json() for span in self.exporter.get_finished_spans())


@pytest.fixture
def spans(lane: Lane) -> Spans:
    """What the lane's operations leave."""
    made = Spans()
    lane.hooks.add("spans", OpenTelemetry(made.provider, tenants=False))
    return made


def id_of(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def named(traceparent: str) -> tuple[int, int]:
    _, trace, span, _ = traceparent.split("-")
    return int(trace, 16), int(span, 16)


def test_spans_across_the_queue(lane: Lane, spans: Spans, settings: Settings, redis_server: Redis) -> None:
    """The request continues its caller's trace; the drain has one of its own, with a link to the request."""
    with redis.Redis.from_url(redis_server.uri(0)) as client:
        client.flushdb()
    app = make_app(settings)
    lane.wake = Wakeups(app, NoMarks())
    with lane.hooks.around(Operation("remember", "acme", items=2, continues=CALLER)):
        accepted(lane, canary(), item("tea", agent=CANARY))
    assert TRACEPARENT.get() is None
    (shard,), wakeup = _taken(app)
    drains.drain(process_of(lane), "drain.remember", shard, **wakeup)

    request, drained, embed = spans.one("remember"), spans.one("drain.remember"), spans.one("embed")
    assert request.parent is not None
    assert (request.parent.trace_id, request.parent.span_id) == named(CALLER)
    assert named(wakeup["traceparent"]) == id_of(request)
    assert drained.parent is None
    assert [(link.context.trace_id, link.context.span_id) for link in drained.links] == [id_of(request)]
    assert id_of(drained)[0] != id_of(request)[0]
    assert embed.parent is not None
    assert (embed.parent.trace_id, embed.parent.span_id) == id_of(drained)
    assert [span.kind for span in (request, drained, embed)] == [SpanKind.SERVER, SpanKind.CONSUMER, SpanKind.CLIENT]
    assert dict(drained.attributes or {}) == {"memlane.items": 2, "memlane.shard": shard}
    assert dict(embed.attributes or {}) == {"memlane.items": 2, "memlane.model": lane.model.name}
    assert CANARY not in spans.text
    assert "acme" not in spans.text


def _taken(app: Celery) -> tuple[list[int], dict[str, str]]:
    """The first wake-up that waits in the queue: its arguments."""
    with app.connection_for_read() as connection, connection.SimpleQueue("remember") as queue:
        message = queue.get(timeout=20)
        message.ack()
    arguments, named_ones, _ = json.loads(message.body)
    return arguments, named_ones


def test_a_wake_up_of_a_version_without_a_trace_is_obeyed(lane: Lane, spans: Spans) -> None:
    accepted(lane, canary())
    drain_all(lane)
    drained = spans.one("drain.remember")
    assert drained.parent is None
    assert drained.links == ()


@pytest.mark.parametrize("given", ["", "x", "00-0-0-00", f"00-{'0' * 32}-{'0' * 16}-01", CANARY])
def test_a_trace_that_is_none_is_left_aside(lane: Lane, spans: Spans, given: str) -> None:
    for operation in (Operation("drain.remember", follows=given), Operation("remember", continues=given)):
        with lane.hooks.around(operation):
            pass
    assert spans.one("drain.remember").links == ()
    assert spans.one("remember").parent is None
    assert CANARY not in spans.text


class Refusing(HashEmbedder):
    """An embedder that refuses, or breaks, and quotes what it was asked."""

    error: type[Exception] = ProviderRefused

    def embed(self, texts: Sequence[str]) -> Embedding:
        raise self.error(f"no vector for {texts}")


def test_errors_are_named_by_their_type_alone(lane: Lane, spans: Spans) -> None:
    embedder = Refusing(lane.model)
    asks(lane, embedder)
    accepted(lane, canary())
    drain_all(lane, Kind.REMEMBER)
    embed = spans.one("embed")
    assert embed.status.status_code is StatusCode.ERROR
    assert embed.status.description is None
    assert (embed.attributes or {})["error.type"] == "ProviderRefused"
    assert spans.one("drain.remember").status.status_code is StatusCode.UNSET, "its memories were stored"
    assert CANARY not in spans.text


def test_a_drain_that_fails_is_told_although_it_raises_nothing(lane: Lane, spans: Spans) -> None:
    embedder = Refusing(lane.model)
    embedder.error = RuntimeError
    asks(lane, embedder)
    accepted(lane, canary())
    drain_all(lane, Kind.REMEMBER)
    statuses = [
        (span.status.status_code, (span.attributes or {})["error.type"]) for span in spans.named("drain.remember")
    ]
    assert statuses
    assert set(statuses) == {(StatusCode.ERROR, "RuntimeError")}
    assert CANARY not in spans.text


def test_a_producers_message_continues_its_trace(lane: Lane, spans: Spans) -> None:
    message = {"tenant": "acme", "items": [{"agent": CANARY, "content": CANARY}] * 2}
    producers.deliver(lane, "memory.remember", message, "m-1", traceparent=CALLER)
    producers.deliver(lane, "memory.remember", {"tenant": "acme", "items": CANARY}, "m-2", traceparent=CALLER)
    good, bad = spans.named("memory.remember")
    for span in (good, bad):
        assert span.parent is not None
        assert (span.parent.trace_id, span.parent.span_id) == named(CALLER)
    assert good.status.status_code is StatusCode.UNSET
    assert (good.attributes or {})["memlane.items"] == 2
    assert (bad.attributes or {})["error.type"] == "InvalidInput"
    assert CANARY not in spans.text


def test_tenants_are_named_where_that_is_wanted(lane: Lane) -> None:
    made = Spans()
    lane.hooks.add("spans", OpenTelemetry(made.provider, tenants=True))
    with lane.hooks.around(Operation("recall", "acme", 1)):
        pass
    assert (made.one("recall").attributes or {})["memlane.tenant"] == "acme"


def test_a_collector_that_is_down_is_said_once(settings: Settings) -> None:
    """It costs a line, not an operation; when it is back, spans arrive."""
    with collecting() as collector:
        plugin = make(settings.model_copy(update={"otel_endpoint": SecretStr(collector.url)}))
        assert plugin is not None
        collector.status = 400  # one that asks to be asked again would be
        with capture_logs() as logs:
            for _ in range(3):
                _span(plugin, "recall")
                plugin._provider.force_flush()
        assert [line["event"] for line in logs] == ["opentelemetry.not_sent"]
        collector.status = 200
        _span(plugin, "forget")
        plugin.close()
        assert [len(collector.spans(name)) for name in ("recall", "forget")] == [0, 1]


def test_a_collector_that_hangs_does_not_hold_up_the_end(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lane = make_lane(make_settings(otel_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        assert "opentelemetry" in lane.hooks.names
        with lane.hooks.around(Operation("recall")):
            pass
        begun = monotonic()
        with capture_logs() as logs:
            lane.hooks.close()
        assert monotonic() - begun < 8, "the exporter alone waits for 10 seconds"
    assert [line["hook"] for line in logs if line["event"] == "hook.left_behind"] == ["opentelemetry.close"]


def _span(plugin: OpenTelemetry, name: str) -> None:
    operation = Operation(name)
    plugin.before(operation)
    plugin.after(operation)


@pytest.fixture(params=["udp", "unix"])
def agent(request: pytest.FixtureRequest, server_folder: Path) -> Iterator[tuple[socket.socket, str]]:
    """A DogStatsD agent's socket, and its address."""
    udp = request.param == "udp"
    with socket.socket(socket.AF_INET if udp else socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        where = server_folder / f"{uuid4()}.sock"
        made.bind(("127.0.0.1", 0) if udp else str(where))
        made.settimeout(20)
        yield made, f"udp://127.0.0.1:{made.getsockname()[1]}" if udp else f"unix://{where}"


@pytest.mark.parametrize("tenants", [False, True])
def test_figures_to_a_dogstatsd_agent(
    make_settings: MakeSettings,
    make_lane: Callable[[Settings], Lane],
    agent: tuple[socket.socket, str],
    tenants: bool,
) -> None:
    listening, url = agent
    lane = make_lane(make_settings(statsd_url=url, observe_tenants=tenants))
    assert "dogstatsd" in lane.hooks.names
    producers.deliver(lane, "memory.remember", {"tenant": "acme", "agent": CANARY, "content": CANARY}, "m-1")
    producers.deliver(lane, "memory.remember", {"tenant": "acme", "items": CANARY}, "m-2")
    drain_all(lane, Kind.REMEMBER)
    lines: set[str] = set()
    name = ",tenant:acme" if tenants else ""
    wanted = {
        "memlane.operation.items:1|c|#operation:drain.remember",
        "memlane.operation.items:1|c|#operation:embed",
        f"memlane.operation.items:1|c|#operation:memory.remember{name}",
        f"memlane.operation.errors:1|c|#operation:memory.remember{name},error:InvalidInput",
    }
    while not wanted <= lines:
        lines |= set(listening.recv(65536).decode().splitlines())
    assert any(line.startswith("memlane.operation.seconds:") and "|h|#operation:embed" in line for line in lines)
    assert not [line for line in lines if CANARY in line or ("acme" in line and not tenants)]


def test_an_agent_that_is_away_holds_nobody_up(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    lane = make_lane(make_settings(statsd_url="unix:///nowhere/at/all.sock"))
    assert "dogstatsd" in lane.hooks.names
    for _ in range(1000):
        with lane.hooks.around(Operation("recall")):
            pass
    assert lane.hooks.failures == {}


def test_series_of_operations(lane: Lane) -> None:
    def of(sample: str, **labels: str) -> float:
        return lane.measures.registry.get_sample_value(sample, labels) or 0.0

    before = of("memlane_operation_seconds_count", operation="drain.remember")
    wrong = of("memlane_operation_errors_total", operation="memory.remember", error="InvalidInput")
    accepted(lane, canary())
    drain_all(lane, Kind.REMEMBER)
    producers.deliver(lane, "memory.remember", {"tenant": "acme", "items": CANARY}, "m-2")
    assert of("memlane_operation_seconds_count", operation="drain.remember") == before + 1
    assert of("memlane_operation_errors_total", operation="memory.remember", error="InvalidInput") == wrong + 1


def test_the_first_trace_goes_along() -> None:
    """Of those who ask for the same shard in a moment; one who has none does not take its place."""
    sent: list[dict[str, str]] = []

    class App:
        def send_task(self, _name: str, args: tuple[int], kwargs: dict[str, str]) -> None:  # noqa: ARG002
            sent.append(kwargs)

    wake = Wakeups(App(), NoMarks())
    with wake._more:  # its thread waits for this
        for trace in (None, CALLER, CALLER.replace("-b7", "-00")):
            token = TRACEPARENT.set(trace)
            wake(Kind.REMEMBER, 3)
            TRACEPARENT.reset(token)
    eventually(lambda: bool(sent))
    assert [kwargs.get("traceparent") for kwargs in sent] == [CALLER]
