"""Prometheus series of the gateway: requests as they were answered, and the backlog as the shards tell it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client import Counter as Counted
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memlane.contract.status import NodeStatus, StrayStatus
from memlane.errors import BudgetExceeded, MemlaneError, RateLimited
from memlane.gateway.accounts import Accounts
from memlane.gateway.healthy import Healthy
from memlane.gateway.spent import Spent
from memlane.gateway.together import Together
from memlane.storage.held import REASONS
from memlane.storage.job_state import JobState
from memlane.storage.jobs import Backlog
from memlane.storage.status import summed

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_STATES = (JobState.OPEN, JobState.LEASED, JobState.PARKED)
"""The states in which jobs are counted: those that have a row."""


_LIMIT_OF = {reason: limit for limit, reason in REASONS.items()}
"""The limit that a stray is held back for, by its reason."""


class Metrics:
    """All series, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counted(
            "memlane_requests", "Requests by route and status.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "memlane_request_seconds",
            "Time from a request to its answer.",
            ("method", "route"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.items = Counted(
            "memlane_items", "Items by what became of them at the door.", ("outcome",), registry=self.registry
        )
        self._limited = Counted(
            "memlane_limited",
            "Items refused at the door, by the limit that they were over.",
            ("limit",),
            registry=self.registry,
        )
        self._rates_shared = Gauge(
            "memlane_rates_shared",
            "Whether accept rates are counted for all processes together, or by this one alone.",
            registry=self.registry,
        )
        self._jobs = Gauge("memlane_jobs", "Jobs by kind and state.", ("kind", "state"), registry=self.registry)
        self._over_budget = Gauge(
            "memlane_jobs_over_budget", "Open jobs that wait for a budget, by kind.", ("kind",), registry=self.registry
        )
        self._oldest = Gauge(
            "memlane_oldest_due_job_seconds",
            "How long the oldest job that is due has waited for somebody.",
            ("kind",),
            registry=self.registry,
        )
        self._knobs = Gauge("memlane_knob", "How knobs stand, whoever turned them.", ("knob",), registry=self.registry)
        self._strays = Gauge(
            "memlane_strays", "Producers' messages that could not be taken in.", ("task",), registry=self.registry
        )
        self._held = Gauge(
            "memlane_held_messages",
            "Producers' messages that are held back, by the limit that they are over.",
            ("limit",),
            registry=self.registry,
        )
        self.spent = Spent()
        self.registry.register(self.spent)
        self.healthy = Healthy()
        self.registry.register(self.healthy)
        self.accounts = Accounts()
        self.registry.register(self.accounts)
        self.together = Together()
        self.registry.register(self.together)
        self._node_up = Gauge(
            "memlane_node_up",
            "1 where a node's primary answers, 0 where it does not.",
            ("node",),
            registry=self.registry,
        )
        self._shards = Gauge("memlane_shards", "Shards by whether they answer.", ("state",), registry=self.registry)

    def took_in(self, outcomes: Mapping[str, int]) -> None:
        """Items came to the door, by what became of them."""
        for outcome, count in outcomes.items():
            self.items.labels(outcome).inc(count)

    def refused(self, error: MemlaneError, items: int = 1) -> None:
        """Items were refused; those that were over a limit are counted by it."""
        if isinstance(error, BudgetExceeded):
            self._limited.labels("budget").inc(items)
        elif isinstance(error, RateLimited):
            self._limited.labels(error.limit).inc(items)

    def shares_rates(self, shared: Callable[[], bool]) -> None:
        """How it is found out whether rates are counted for all processes together."""
        self._rates_shared.set_function(shared)

    def backlog(self, shards: Iterable[Sequence[Backlog] | None]) -> None:
        """Take over what each shard says; None for one that does not answer."""
        answers = list(shards)
        self._jobs.clear()
        self._oldest.clear()
        self._over_budget.clear()
        for jobs in summed(answers):
            for state in _STATES:
                self._jobs.labels(jobs.kind, state.value).set(getattr(jobs, state.value))
            self._oldest.labels(jobs.kind).set(jobs.oldest_s)
            self._over_budget.labels(jobs.kind).set(jobs.over_budget)
        down = answers.count(None)
        self._shards.labels("up").set(len(answers) - down)
        self._shards.labels("down").set(down)

    def nodes(self, found: Iterable[NodeStatus]) -> None:
        """Take over which nodes answer."""
        for node in found:
            self._node_up.labels(node.name).set(node.up)

    def knobs(self, standing: Mapping[str, int]) -> None:
        """Take over how the knobs stand."""
        for knob, value in standing.items():
            self._knobs.labels(knob).set(value)

    def strays(self, kept: Iterable[StrayStatus]) -> None:
        """Take over which producers' messages are kept."""
        counts: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for stray in kept:
            if stray.reason in _LIMIT_OF:
                held[_LIMIT_OF[stray.reason]] += stray.count
            else:
                counts[stray.task] += stray.count
        self._strays.clear()
        for task, count in counts.items():
            self._strays.labels(task).set(count)
        for limit in REASONS:
            self._held.labels(limit).set(held[limit])

    def render(self) -> bytes:
        """All series in Prometheus' text format."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware that measures each request; the route's pattern is the label, never the path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note how it was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = monotonic()
        answer: dict[str, int] = {"status": 500}

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"] = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            labels: Mapping[str, str] = {"method": scope["method"], "route": route}
            self._metrics.requests.labels(**labels, status=str(answer["status"])).inc()
            self._metrics.seconds.labels(**labels).observe(monotonic() - begun)
