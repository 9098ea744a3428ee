"""profile: where one recall or remember spends its time, step by step, with query plans. It needs memlane[server]."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from memlane.cli.output import Output, escape
from memlane.cli.session import Data, Json
from memlane.cli.stack import server, settings_of
from memlane.contract import MemoryItem, RecallRequest
from memlane.contract.parsing import parse

if TYPE_CHECKING:
    from memlane.bench.steps import Profile, Step

profile = typer.Typer(
    no_args_is_help=True,
    help="Where an operation spends its time: on the nodes in MEMLANE_NODES, or the stack on this machine.",
)

Agent = Annotated[str, typer.Argument(help="Whose memory it is.")]
Tenant = Annotated[str, typer.Option(help="Whose agent it is.")]
Times = Annotated[int, typer.Option(min=1, max=10_000, help="How many runs are counted; one more comes before them.")]
Plans = Annotated[bool, typer.Option("--plans", help="Also show what Postgres does for each statement.")]


@profile.command()
def recall(
    agent: Agent,
    query: Annotated[str, typer.Argument(help="The question.")],
    tenant: Tenant = "default",
    limit: Annotated[int, typer.Option(help="At most so many hits.")] = 10,
    times: Times = 20,
    plans: Plans = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Recall again and again, as a gateway does, and show where the time goes.

    Example: memlane profile recall agent-1 "what does she drink?" --plans
    """
    server()
    from memlane.bench.profile_recall import profile_recall

    asked = parse(RecallRequest, {"agent": agent, "query": query, "limit": limit})
    found = asyncio.run(profile_recall(settings_of(data), tenant, asked, times, plans=plans))
    _show(found, as_json)


@profile.command()
def remember(
    agent: Agent,
    content: Annotated[str, typer.Argument(help="What is remembered.")],
    tenant: Tenant = "default",
    times: Times = 20,
    plans: Plans = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Accept, claim, embed and store a memory again and again, undo it each time, and show where the time goes.

    Each run is one transaction that is rolled back: nobody sees it, and no row of it remains.

    Example: memlane profile remember agent-1 "Caroline prefers tea"
    """
    server()
    from memlane.bench.profile_remember import profile_remember

    item = parse(MemoryItem, {"agent": agent, "content": content})
    _show(profile_remember(settings_of(data), tenant, item, times, plans=plans), as_json)


def _show(found: "Profile", as_json: bool) -> None:
    text: list[Table | str] = [_table(found)]
    text += [f"  {note}" for note in found.notes]
    for plan in found.plans:
        inside = f"; what happens inside {', '.join(plan.inside)} is not in it" if plan.inside else ""
        text += [f"\n{plan.step}{inside}", plan.plan]
    Output(as_json).result(found, text)


def _table(found: "Profile") -> Table:
    """The steps for people, fit for 100 columns."""
    title = f"{found.operation}, agent {found.agent} on shard {found.shard}, {found.runs} runs"
    made = Table(title=escape(title), title_justify="left", header_style="bold")
    for name in ("stage", "step", "node"):
        made.add_column(name, overflow="fold")
    for name in ("median, ms", "p95, ms", "first, ms", "trips"):
        made.add_column(name, justify="right", no_wrap=True)
    before = ""
    for step in found.steps:
        made.add_row(step.stage if step.stage != before else "", *_cells(step))
        before = step.stage
    made.add_section()
    whole = map(_ms, (found.median_ms, found.p95_ms, found.first_ms))
    made.add_row("whole", "", "", *whole, str(found.round_trips))
    return made


def _cells(step: "Step") -> list[Any]:
    times = map(_ms, (step.median_ms, step.p95_ms, step.first_ms))
    return [escape(step.step), escape(step.where), *times, str(step.round_trips) if step.round_trips else ""]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
