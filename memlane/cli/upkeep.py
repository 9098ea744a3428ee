"""vacuums, indexes, tune: what upkeep does by itself, and the knobs that an operator may turn instead."""

from typing import Annotated

import typer

from memlane.cli.output import table
from memlane.cli.session import Session, connected
from memlane.contract.upkeep import AgentIndex, Knob, KnobStatus, Tuning, Vacuumed

tune = typer.Typer(no_args_is_help=True, help="Auto-tune: the knobs that memlane turns by itself, and their history.")


@connected
def vacuums(
    session: Session,
    shard: Annotated[int | None, typer.Option(help="Of this shard alone.")] = None,
    relation: Annotated[str | None, typer.Option(help="Of this table or index alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
) -> None:
    """Show what vacuum did to tables and indexes within a week, the latest first, and why.

    Example: memlane vacuums --relation ledger
    """
    with session.admin() as admin:
        found = admin.vacuums(shard=shard, relation=relation, limit=limit)
    columns = ["when", "where", "relation", "what", "why", "ms", "dead rows", "MB"]
    session.out.result(found, table("", columns, [_vacuumed(one) for one in found]) if found else "nothing was due")


def list_indexes(session: Session) -> None:
    """Show the indexes of large agents, those that miss most first."""
    with session.admin() as admin:
        found = admin.indexes()
    how = ["memories", "newer", "MB", "built with", "looks at", "recall@10", "ms", "asked", "last"]
    rows = [_index(one) for one in found]
    session.out.result(found, table("", ["tenant", "agent", *how], rows) if found else "no agent has an index")


def _index(one: AgentIndex) -> tuple[object, ...]:
    built = f"m {one.m}, {one.ef_construction}"
    if one.exact_until is not None:
        built = f"none until {one.exact_until:%m-%d}"
    measured = "" if one.recall is None else f"{one.recall:.3f} of {one.questions}"
    ms = "" if one.ms is None else f"{one.ms:.1f}"
    last = "" if one.asked_at is None else f"{one.asked_at:%m-%d %H:%M}"
    mb, looks = f"{one.bytes / 1e6:.1f}", one.ef_search or "the knob"
    return one.tenant, one.agent, one.memories, one.tail or 0, mb, built, looks, measured, ms, one.asked or 0, last


def _vacuumed(one: Vacuumed) -> tuple[object, ...]:
    where = f"{one.node} {'control' if one.shard is None else one.shard}"
    what = one.action if one.outcome == "done" else f"{one.action} {one.outcome}"
    dead = f"{one.dead_before}, then {one.dead_after}"
    size = f"{one.bytes_before / 1e6:.1f}, then {one.bytes_after / 1e6:.1f}"
    return f"{one.at:%m-%d %H:%M}" if one.at else "", where, one.relation, what, one.why, round(one.ms), dead, size


@tune.command("show")
@connected
def show(session: Session) -> None:
    """Show how each knob stands, its bounds, and who turned it.

    Example: memlane tune show
    """
    with session.admin() as admin:
        found = admin.knobs()
    rows = [(one.knob, one.value, one.least, one.most, one.by) for one in found]
    session.out.result(found, table("", ["knob", "stands at", "least", "most", "by"], rows))


@tune.command("history")
@connected
def history(
    session: Session, limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50
) -> None:
    """Show the turns of knobs within 90 days, the latest first: what was measured, and what became of each.

    Example: memlane tune history
    """
    with session.admin() as admin:
        found = admin.tunings(limit=limit)
    columns = ["when", "knob", "turned", "why", "measured", "state"]
    session.out.result(found, table("", columns, [_tuning(one) for one in found]) if found else "no knob was turned")


def _tuning(one: Tuning) -> tuple[object, ...]:
    was, became = ("?" if value is None else f"{value:.4g}" for value in (one.metric_before, one.metric_after))
    measured = "" if one.metric_before is None else f"{one.metric}: {was}, then {became}"
    return f"{one.began_at:%m-%d %H:%M}", one.knob, f"{one.before:g} to {one.after:g}", one.why, measured, one.state


@tune.command("set")
@connected
def set_knob(
    session: Session,
    knob: Annotated[Knob, typer.Argument(help="Which.")],
    value: Annotated[int, typer.Argument(help="Within the bounds that `memlane tune show` names.")],
) -> None:
    """Set a knob by hand; auto-tune leaves it alone until it is reset. It holds within a few seconds.

    Example: memlane tune set claim_size 512
    """
    with session.admin() as admin:
        _say(session, admin.set_knob(knob, value))


@tune.command("reset")
@connected
def reset_knob(session: Session, knob: Annotated[Knob, typer.Argument(help="Which.")]) -> None:
    """Let a knob stand as the settings say; auto-tune may turn it from there.

    Example: memlane tune reset claim_size
    """
    with session.admin() as admin:
        _say(session, admin.reset_knob(knob))


def _say(session: Session, found: KnobStatus) -> None:
    session.out.result(found, f"{found.knob} stands at {found.value}, by {found.by}")
