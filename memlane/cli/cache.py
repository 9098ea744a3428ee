"""cache: of what use caches are, and having them forget what they know."""

from typing import Annotated
from uuid import UUID

import typer

from memlane.cli.output import table
from memlane.cli.session import Session, connected
from memlane.contract.caching import CacheStatus

cache = typer.Typer(no_args_is_help=True, help="Caches of answers: of what use they are; have them forget.")


@cache.command("show")
@connected
def show(session: Session) -> None:
    """Show how often each level of each cache knew what it was asked, and what it holds, in all processes.

    Example: memlane cache show
    """
    with session.admin() as admin:
        found = admin.caches()
    columns = ["cache", "level", "hits", "misses", "hit rate", "entries", "MB", "evicted", "age"]
    session.out.result(found, table("", columns, [_row(one) for one in found]) if found else "nothing was asked yet")


def _row(one: CacheStatus) -> tuple[object, ...]:
    held = "" if one.size_bytes is None else f"{one.size_bytes / 1e6:.1f}"
    entries, evicted = ("" if count is None else f"{count:.0f}" for count in (one.entries, one.evicted))
    rate, age = f"{one.hit_rate:.1%}", f"{one.age_s:.1f} s"
    return one.cache, one.level, f"{one.hits:.0f}", f"{one.misses:.0f}", rate, entries, held, evicted, age


@cache.command("clear")
@connected
def clear(
    session: Session,
    tenant: Annotated[str | None, typer.Option(help="What is known of this tenant's agents.")] = None,
    agent: Annotated[str | None, typer.Option(help="What is known of this agent of the tenant.")] = None,
    memory: Annotated[UUID | None, typer.Option(help="Whatever this memory of the agent may be in.")] = None,
) -> None:
    """Have all processes forget what they know, of everything unless told otherwise; it holds at once.

    Example: memlane cache clear --tenant acme --agent agent-1
    """
    with session.admin() as admin:
        done = admin.clear_caches(tenant=tenant, agent=agent, memory=memory)
    of = "all" if done.agents is None else f"{done.agents} agent{'s' if done.agents != 1 else ''}"
    session.out.result(done, f"caches know nothing of {of} any more")
