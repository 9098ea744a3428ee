"""status, ledger, shards, tenants, keys: what an operator looks at and sets up."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from memlane.admin import Admin
from memlane.cli.durations import seconds
from memlane.cli.output import table
from memlane.cli.session import Session, connected
from memlane.contract import Ledger
from memlane.contract.status import DutyStatus, KeyStatus, NewKey, Status, TenantLimits
from memlane.errors import NotFound

_WAIT_S = 8.0
"""How long the gateway is waited for; it answers within four seconds, whatever hangs behind it."""

tenants = typer.Typer(no_args_is_help=True, help="Tenants: who owns memories.")
keys = typer.Typer(no_args_is_help=True, help="API keys: each belongs to one tenant, or is the admin's.")


@connected
def status(session: Session) -> None:
    """The state of the whole: its score, nodes, shards, jobs, strays, duties, broker; and where Flower is.

    Example: memlane status --json
    """
    with Admin(session.url, session.admin_key, timeout=_WAIT_S, retries=0) as admin:
        found = admin.status()
    session.out.result(
        found,
        [
            f"memlane {found.version} at {session.url}, model {found.model}",
            *([f"Flower at {session.flower}"] if session.flower else []),
            *_health_lines(found),
            *_status_tables(found),
        ],
    )


def _health_lines(found: Status) -> list[str]:
    """How the whole does, in a few lines."""
    health = found.health
    if health is None:
        return []
    lines = [f"health {health.score}, {health.band}{': memlane doctor says what to do' if health.reasons else ''}"]
    lines += [f"  {reason}" for reason in health.reasons]
    return lines + [f"advice: {one.advice}: {one.reason}" for one in health.advice]


def _status_tables(found: Status) -> list[Table | str]:
    def up(is_up: bool) -> str:
        return "up" if is_up else "DOWN"

    def listed(settings: object) -> str:
        return ", ".join(f"{k} {v}" for k, v in dict(settings).items())  # type: ignore[call-overload]

    parts: list[Table | str] = [
        table(
            "servers",
            ["name", "state", "settings"],
            [(n.name, up(n.up), listed(n.settings)) for n in found.nodes]
            + [(found.broker.kind, up(found.broker.up), listed(found.broker.settings))],
        ),
        table(
            "shards",
            ["shard", "node", "state", "agents", "memories", "MB"],
            [(s.shard, s.node, up(s.up), s.agents, s.memories, round(s.bytes / 1e6, 1)) for s in found.shards],
        ),
    ]
    parts += [f"{node.name}: {node.alarm}" for node in found.nodes if node.alarm]
    jobs = [(j.kind, j.open, j.leased, j.parked, j.over_budget, round(j.oldest_s, 1)) for j in found.jobs]
    columns = ["kind", "open", "leased", "parked", "over budget", "oldest due, s"]
    parts.append(table("jobs", columns, jobs) if jobs else "no open jobs")
    if found.strays:
        rows = [(s.task, s.reason, s.count, f"{s.since:%Y-%m-%d %H:%M}") for s in found.strays]
        parts.append(table("strays", ["task", "reason", "messages", "since"], rows))
    if found.duties:
        parts.append(table("duties", ["name", "slot", "ended", "came to"], [_duty(duty) for duty in found.duties]))
    return parts


def _duty(duty: DutyStatus) -> tuple[str, ...]:
    """The last run of a duty for people."""
    ended = f"{duty.done_at:%H:%M:%S}" if duty.done_at else "-"
    return duty.name, f"{duty.slot:%Y-%m-%d %H:%M:%S}", ended, _came_to(duty)


def _came_to(duty: DutyStatus) -> str:
    if duty.broken_off:
        return "BROKE OFF: its process was killed, or hangs"
    if duty.outcome is None:
        return "at work" if duty.done_at is None else ""
    return duty.detail or "" if duty.outcome == "done" else f"{duty.outcome.upper()}: {duty.detail}"


@connected
def ledger(session: Session) -> None:
    """What became of everything that was handed over, and whether it adds up. The exit code is 1 if not.

    Example: memlane ledger
    """
    try:
        with session.client() as client:
            found = client.ledger()
    except NotFound:  # a gateway that serves the admin alone
        found = session.admin().ledger()
    session.out.result(found, ledger_text(found))
    if not found.balanced:
        raise typer.Exit(1)


def ledger_text(found: Ledger) -> list[Table | str]:
    """The ledger for people."""
    rows: list[tuple[str, int]] = [(event.value, count) for event, count in found.events.items() if count]
    rows += [("open now", found.open), ("parked now", found.parked)]
    balance = "balanced" if found.balanced else f"UNBALANCED by {found.difference}"
    text = f"accepted = stored + dropped + parked now + open now: {balance}"
    missing = [f"without shards {', '.join(map(str, found.missing))}, which do not answer"] if found.missing else []
    return [table("ledger", ["event", "count"], rows), text, *missing]


@connected
def shards(session: Session) -> None:
    """Where each shard lives, and what it holds.

    Example: memlane shards
    """
    found = session.admin().shards()
    rows = [
        (s.shard, s.node, "up" if s.up else "DOWN", s.epoch, s.agents, s.memories, round(s.bytes / 1e6, 1))
        for s in found
    ]
    session.out.result(found, table("", ["shard", "node", "state", "epoch", "agents", "memories", "MB"], rows))


@tenants.command("create")
@connected
def create_tenant(
    session: Session, name: Annotated[str, typer.Argument(help="a-z, 0-9, - and _, at most 63.")]
) -> None:
    """Add a tenant.

    Example: memlane tenants create acme
    """
    created = session.admin().create_tenant(name)
    session.out.result({"tenant": name, "created": created}, f"tenant {name} {'created' if created else 'was there'}")


@tenants.command("list")
@connected
def list_tenants(session: Session) -> None:
    """List all tenants.

    Example: memlane tenants list
    """
    found = session.admin().tenants()
    rows = [(t.tenant, f"{t.created_at:%Y-%m-%d}", *_shown(t.limits)) for t in found]
    session.out.result(found, table("", ["tenant", "since", "weight", "rate", "agent rate", "open jobs"], rows))


@tenants.command("limit")
@connected
def limit_tenant(
    session: Session,
    name: Annotated[str, typer.Argument(help="Whose limits.")],
    rate: Annotated[
        str | None, typer.Option(help="Items that it may hand over in a minute; none takes it back.")
    ] = None,
    agent_rate: Annotated[str | None, typer.Option(help="The same, for each of its agents.")] = None,
    open_jobs: Annotated[str | None, typer.Option(help="How many of its jobs may be open at once.")] = None,
    weight: Annotated[str | None, typer.Option(help="Its share of the work, beside the others'; 1 unless set.")] = None,
) -> None:
    """Set limits of a tenant, or show them; those that are not named stay as they are.

    Example: memlane tenants limit acme --rate 6000 --weight 3
    """
    named = {"rate": rate, "agent_rate": agent_rate, "open_jobs": open_jobs, "weight": weight}
    found = session.admin().set_limits(name, **{k: _number(k, v) for k, v in named.items() if v is not None})
    session.out.result(found, table("", ["weight", "rate", "agent rate", "open jobs"], [_shown(found)]))


def _shown(limits: TenantLimits) -> tuple[str, ...]:
    """Limits for people; a dash: as the settings say."""
    found = (limits.weight, limits.rate, limits.agent_rate, limits.open_jobs)
    return tuple("-" if value is None else str(value) for value in found)


def _number(option: str, text: str) -> int | None:
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"--{option.replace('_', '-')} takes a whole number, or none") from None


@keys.command("create")
@connected
def create_key(
    session: Session,
    tenant: Annotated[str | None, typer.Argument(help="Whose; see --admin.")] = None,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="Make an admin key, which sees no memory.")] = False,
    expires: Annotated[str | None, typer.Option(help="When it ends: 12h, 90d; never unless given.")] = None,
) -> None:
    """Make an API key; it is shown this once.

    Example: memlane keys create acme --label "the chat app" --expires 90d
    """
    if admin == (tenant is not None):
        raise typer.BadParameter("name a tenant, or use --admin")
    key = session.admin().create_key(tenant, label, seconds(expires) if expires is not None else None)
    session.out.result(NewKey(key), key)


@keys.command("list")
@connected
def list_keys(session: Session, tenant: Annotated[str | None, typer.Argument(help="Only this one's.")] = None) -> None:
    """List API keys, without their secrets.

    Example: memlane keys list acme
    """
    found = session.admin().keys(tenant)
    rows = [
        (k.prefix, k.tenant or "(admin)", k.label, f"{k.created_at:%Y-%m-%d}", _moment(k.last_used_at), _state(k))
        for k in found
    ]
    session.out.result(found, table("", ["prefix", "tenant", "label", "since", "last used", "state"], rows))


def _state(key: KeyStatus) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "good"
    return f"good until {_moment(key.expires_at)}" if key.expires_at > datetime.now(UTC) else "expired"


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at is not None else "-"


Prefix = Annotated[str, typer.Argument(help="Of the key: the part between the underscores.")]


@keys.command("rotate")
@connected
def rotate_key(
    session: Session,
    prefix: Prefix,
    grace: Annotated[str, typer.Option(help="How long the old key goes on being good; 0: not at all.")] = "24h",
) -> None:
    """Make a key that takes another's place; it is shown this once.

    Example: memlane keys rotate 3f9c2a7d10be --grace 24h
    """
    made = session.admin().rotate_key(_prefix_of(prefix), seconds(grace))
    session.out.result(made, made.key)
    ends = f"good until {_moment(datetime.now(UTC) + timedelta(seconds=made.good_for_s))} UTC"
    session.out.line(f"key {made.replaces} is {ends if made.good_for_s else 'worthless now'}")


@keys.command("revoke")
@connected
def revoke_key(session: Session, prefix: Prefix) -> None:
    """Make an API key worthless.

    Example: memlane keys revoke 3f9c2a7d10be
    """
    prefix = _prefix_of(prefix)
    session.admin().revoke_key(prefix)
    session.out.result({"prefix": prefix, "revoked": True}, f"key {prefix} revoked")


def _prefix_of(given: str) -> str:
    """The prefix, also of a whole key, which has no place in a URL."""
    return given.split("_")[1] if given.startswith("mlk_") else given
