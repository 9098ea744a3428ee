"""The screen of `memlane top`: a frame as tables, beside each other where there is room."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from memlane.cli.frames import ClassRate, Frame
from memlane.contract.status import Status

_MOST_REASONS = 5


def screen(frame: Frame, *, keys: bool = False) -> RenderableType:
    """A frame as it is shown; `keys` says that q ends it."""
    parts = list(_head(frame, keys=keys))
    tables = [table for table in _tables(frame) if table.row_count]
    return Group(*parts, Columns(tables, padding=(1, 3)))


def _head(frame: Frame, *, keys: bool) -> Iterator[Text]:
    version = f"memlane {frame.status.version}" if frame.status else "memlane"
    at = f"{frame.at:%H:%M:%S} UTC" if frame.at else "-"
    over = f", rates over {frame.over_s:g} s" if frame.over_s else ""
    yield Text.assemble((version, "bold"), f" at {frame.url}, {at}{over}", "; q ends" if keys else "")
    if frame.error:
        since = f" since {_ago(frame.at)}" if frame.at else ""
        yield Text(f"NO ANSWER{since}: {frame.error}", style="bold red")
    if frame.health:
        good = frame.health.score >= 90
        yield Text(f"health {frame.health.score} {frame.health.band}", style="green" if good else "bold yellow")
        yield from (Text(f"  {reason}") for reason in frame.health.reasons[:_MOST_REASONS])
    if frame.status:
        yield from (Text(line, style="bold red") for line in _wrong(frame.status))
        if not frame.status.jobs:
            yield Text("no open jobs")
    if frame.cost_dollars_per_min is not None:
        yield Text(f"embeddings cost ${frame.cost_dollars_per_min:.4f} a minute")


def _wrong(status: Status) -> Iterator[str]:
    """What is wrong by the state alone."""
    yield from (f"node {node.name} does not answer" for node in status.nodes if not node.up)
    yield from (f"node {node.name}: {node.alarm}" for node in status.nodes if node.alarm)
    down = [str(shard.shard) for shard in status.shards if not shard.up]
    if down:
        yield f"shards that do not answer: {', '.join(down)}"
    if not status.broker.up:
        yield f"the broker ({status.broker.kind}) does not answer"
    yield from (f"duty {duty.name} broke off" for duty in status.duties if duty.broken_off)
    yield from (
        f"duty {duty.name} {duty.outcome}: {duty.detail}"
        for duty in status.duties
        if duty.outcome in ("failed", "stopped")
    )


def _tables(frame: Frame) -> Iterator[Table]:
    status = frame.status
    if status:
        rows = [(j.kind, j.open, j.leased, j.parked, f"{j.oldest_s:.1f}") for j in status.jobs]
        yield _table("queues", ("kind", "open", "leased", "parked", "oldest, s"), rows)
    drains = [(d.kind, d.claims_per_s, d.jobs_per_s, _outcomes(d.outcomes_per_s)) for d in frame.drains]
    yield _table("drains", ("kind", "claims/s", "jobs/s", "outcomes/s"), drains)
    operations = [(o.name, o.per_s, _ms(o.p50_ms), _ms(o.p95_ms), o.errors_per_s) for o in frame.operations]
    yield _table("operations", ("name", "a second", "p50, ms", "p95, ms", "errors/s"), operations)
    classes = [
        (c.name, c.living, c.lost or "", _percent(c.cpu_percent), round(c.resident_bytes / 1e6), _throttled(c))
        for c in frame.classes
    ]
    yield _table("processes", ("class", "living", "lost", "CPU, %", "MB", "fullest, %"), classes)
    caches = [(c.name, c.per_s, _percent(c.hit_percent)) for c in frame.caches]
    yield _table("caches", ("cache", "asked/s", "hits, %"), caches)
    if status:
        shards = [
            (s.shard, s.node, "up" if s.up else "DOWN", s.memories, round(s.bytes / 1e6, 1)) for s in status.shards
        ]
        yield _table("shards", ("shard", "node", "state", "memories", "MB"), shards)
        strays = [(s.task, s.reason, s.count) for s in status.strays]
        yield _table("strays", ("task", "reason", "messages"), strays)
    budgets = [(b.tenant, b.agent or "", b.period.value, f"{b.percent:.0f} %") for b in frame.budgets]
    yield _table("budgets near their limits", ("tenant", "agent", "period", "spent"), budgets)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", overflow="ellipsis", no_wrap=True)
    for row in rows:
        made.add_row(*(Text(_shown(cell)) for cell in row))
    return made


def _shown(cell: object) -> str:
    return (
        f"{cell:g}"
        if isinstance(cell, float) and cell < 100
        else f"{cell:.0f}"
        if isinstance(cell, float)
        else str(cell)
    )


def _outcomes(per_s: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.3g}" for name, value in per_s.items())


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _throttled(one: ClassRate) -> str:
    return _percent(one.memory_percent) + ("!" * one.throttle)


def _ago(at: datetime | None) -> str:
    return "" if at is None else f"{max(0, round((datetime.now(UTC) - at).total_seconds()))} s"
