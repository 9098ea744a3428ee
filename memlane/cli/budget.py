"""budget: what may be spent, what is, and for what; an operator sees all tenants, a tenant's key its own."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from memlane.admin import Admin
from memlane.cli.output import table
from memlane.cli.session import Session, connected
from memlane.client import Client
from memlane.contract.cost import AtLimit, BudgetRemoved, Period, Usage, UsageBy
from memlane.contract.money import dollars, exact, micro
from memlane.errors import Forbidden, NotFound

T = TypeVar("T")

budget = typer.Typer(no_args_is_help=True, help="Budgets: what may be spent on embeddings in a day or a month.")

Tenant = Annotated[str, typer.Argument(help="Whose.")]
OfTenant = Annotated[str | None, typer.Argument(help="Only this one's; needs the admin key.")]
Agent = Annotated[str | None, typer.Option(help="Only of this agent.")]
Per = Annotated[Period, typer.Option(help="For how long it is, by the calendar, in UTC.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A day, which counts.")]


_THEN = {AtLimit.DEFER: "vectors wait", AtLimit.REJECT: "new memories are refused"}


@budget.command("set")
@connected
def set_budget(
    session: Session,
    tenant: Tenant,
    amount: Annotated[str, typer.Argument(metavar="DOLLARS", help="What may be spent: 5.00.")],
    agent: Annotated[str | None, typer.Option(help="Of this agent alone, be it known yet or not.")] = None,
    per: Per = Period.DAY,
    at_limit: Annotated[
        AtLimit | None,
        typer.Option(help="When it is used up: vectors wait, or new memories are refused; as it was unless given."),
    ] = None,
) -> None:
    """Set a budget up, or change it; needs the admin key. What was spent before in its day or month counts.

    Example: memlane budget set acme 5.00 --per month --at-limit defer
    """
    with session.admin() as admin:
        made = admin.set_budget(tenant, micro(amount, "DOLLARS"), agent=agent, period=per, at_limit=at_limit)
    text = f"{_whose(tenant, agent)} may spend {exact(made.limit_micro)} a {made.period}"
    anew = f"begins anew on {made.resets_at:%Y-%m-%d %H:%M} UTC"
    then = f"{_THEN[made.at_limit]} when it is used up"
    session.out.result(made, f"{text}; {dollars(made.spent_micro)} is spent, {then}, and it {anew}")


@budget.command("remove")
@connected
def remove_budget(session: Session, tenant: Tenant, agent: Agent = None, per: Per = Period.DAY) -> None:
    """Take a budget away; needs the admin key.

    Example: memlane budget remove acme --per month
    """
    with session.admin() as admin:
        admin.remove_budget(tenant, agent=agent, period=per)
    session.out.result(
        BudgetRemoved(tenant, per, True, agent), f"{_whose(tenant, agent)} has no budget a {per} any more"
    )


@budget.command("list")
@connected
def list_budgets(session: Session, tenant: OfTenant = None, agent: Agent = None) -> None:
    """List budgets, and what is spent of each in the day or month that goes on now.

    Example: memlane budget list acme
    """
    found = _either(
        session, tenant, lambda admin: admin.budgets(tenant=tenant, agent=agent), lambda own: own.budgets(agent=agent)
    )
    rows = [
        (
            *(
                b.tenant,
                b.agent,
                f"{exact(b.limit_micro)} a {b.period}",
                f"{dollars(b.spent_micro)}, {b.percent:.0f} %",
            ),
            *(f"{b.resets_at:%Y-%m-%d}", b.at_limit, f"{max(b.alerts)} %" if b.alerts else ""),
        )
        for b in found
    ]
    columns = ["tenant", "agent", "budget", "spent", "anew", "at limit", "told"]
    session.out.result(found, table("", columns, rows) if rows else "there are no budgets")


@budget.command("history")
@connected
def show_history(
    session: Session,
    tenant: OfTenant = None,
    agent: Agent = None,
    per: Annotated[Period | None, typer.Option(help="Only of daily or of monthly ones.")] = None,
) -> None:
    """Show what was spent of budgets in each day or month, the latest first.

    Example: memlane budget history acme --per month
    """
    found = _either(
        session,
        tenant,
        lambda admin: admin.budget_history(tenant=tenant, agent=agent, period=per),
        lambda own: own.budget_history(agent=agent, period=per),
    )
    rows = [
        (
            s.tenant,
            s.agent,
            s.starts,
            f"{exact(s.limit_micro)} a {s.period}",
            f"{dollars(s.spent_micro)}, {s.percent:.0f} %",
        )
        for s in found
    ]
    columns = ["tenant", "agent", "from", "budget", "spent"]
    session.out.result(found, table("", columns, rows) if rows else "there were no budgets")


@budget.command("usage")
@connected
def show_usage(
    session: Session,
    tenant: OfTenant = None,
    agent: Agent = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    since: Day = None,
    until: Day = None,
    by: Annotated[str, typer.Option(help="Some of day, tenant, agent, model, with commas between.")] = "day",
) -> None:
    """Show what was asked of embeddings providers, what it cost and what was saved; of 30 days unless told otherwise.

    Example: memlane budget usage acme --by agent,model --since 2026-11-01
    """
    parts = tuple(by.split(",")) if by else ()
    first, last = (None if day is None else day.date() for day in (since, until))
    found = _either(
        session,
        tenant,
        lambda admin: admin.usage(parts, tenant=tenant, agent=agent, model=model, since=first, until=last),
        lambda own: own.usage(parts, agent=agent, model=model, since=first, until=last),
    )
    session.out.result(found, _usage_tables(found, parts) if found else "nothing was used")


def _usage_tables(found: Sequence[Usage], parts: Sequence[str]) -> list[Table]:
    """What was used, and what needed not be: side by side they would be too wide."""
    named = [[getattr(one, UsageBy(part)) for part in parts] for one in found]
    used = [(round(u.requests), round(u.failed), u.texts, u.tokens, dollars(u.cost_micro)) for u in found]
    saved = [(round(u.saved_requests), u.saved_texts, u.saved_tokens, dollars(u.saved_micro)) for u in found]
    columns = ["texts", "tokens", "cost"]
    return [
        table("used", [*parts, "requests", "failed", *columns], [[*a, *b] for a, b in zip(named, used, strict=True)]),
        table("saved", [*parts, "requests", *columns], [[*a, *b] for a, b in zip(named, saved, strict=True)]),
    ]


def _either(session: Session, tenant: str | None, of_all: Callable[[Admin], T], own: Callable[[Client], T]) -> T:
    """What the admin sees; with a tenant's key, or at a gateway that serves tenants alone, what that one sees.

    Raises:
        Forbidden: a tenant is named, but the key is no admin's.
    """
    try:
        with session.admin() as admin:
            return of_all(admin)
    except (Forbidden, NotFound):
        if tenant is not None:
            raise Forbidden("to name a tenant needs the admin key; without one, yours is shown") from None
    with session.client() as client:
        return own(client)


def _whose(tenant: str, agent: str | None) -> str:
    return f"agent {agent} of tenant {tenant}" if agent else f"tenant {tenant}"
