"""jobs parked, jobs strays: what was set aside until somebody decides, of all tenants; needs the admin key."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from rich.table import Table

from memlane.admin import Admin
from memlane.cli.output import table
from memlane.cli.session import Session, connected
from memlane.contract import limits
from memlane.contract.parked import Changed, ParkedJob, ParkedJobs, Stray, Strays
from memlane.errors import FieldError, InvalidInput, NotFound, Unavailable

T = TypeVar("T")
P = TypeVar("P", ParkedJobs, Strays)

Filters = tuple[str | None, str | None, int | None]
"""A tenant, a kind or a task, and a shard, as far as they are given."""

jobs = typer.Typer(no_args_is_help=True, help="Jobs that wait for somebody's decision.")
parked = typer.Typer(no_args_is_help=True, help="Jobs that were set aside, since work on them ended badly each time.")
strays = typer.Typer(no_args_is_help=True, help="Producers' messages that could not be taken in.")
jobs.add_typer(parked, name="parked")
jobs.add_typer(strays, name="strays")

Jobs = Annotated[list[str] | None, typer.Argument(help="Names of jobs as the list has them, or ids of memories.")]
Ids = Annotated[list[UUID] | None, typer.Argument(help="Of strays.")]
All = Annotated[bool, typer.Option("--all", help="All that the filters match.")]
Tenant = Annotated[str | None, typer.Option(help="Only this one's.")]
Kind = Annotated[str | None, typer.Option(help="Only these: remember, embed, text_embed, forget, optimize.")]
Task = Annotated[str | None, typer.Option(help="Only of this task: memory.remember and the like.")]
Shard = Annotated[int | None, typer.Option(help="Only in this shard.")]
Limit = Annotated[int, typer.Option(help="At most so many.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before all are taken.")]


@parked.command("list")
@connected
def list_parked(
    session: Session, tenant: Tenant = None, kind: Kind = None, shard: Shard = None, limit: Limit = 50
) -> None:
    """List jobs that were set aside, shard by shard, the longest parked first; never what they carry.

    Example: memlane jobs parked list --tenant acme
    """
    found = list(islice(_parked(session, tenant, kind, shard), limit))
    rows = [(j.job, j.kind, j.tenant, j.id, j.deaths, f"{j.since:%Y-%m-%d %H:%M}", j.bytes, j.error) for j in found]
    columns = ["job", "kind", "tenant", "id", "deaths", "since", "bytes", "error"]
    session.out.result(found, table("", columns, rows) if rows else "nothing is parked")


@parked.command("show")
@connected
def show_parked(
    session: Session, job: Annotated[str, typer.Argument(help="Its name as the list has it, or the memory's id.")]
) -> None:
    """Show one job that was set aside.

    Example: memlane jobs parked show 3.1042
    """
    found = _named(session.admin(), job)
    session.out.result(found, _fields(found))


@parked.command("retry")
@connected
def retry_parked(
    session: Session,
    names: Jobs = None,
    everything: All = False,
    tenant: Tenant = None,
    kind: Kind = None,
    shard: Shard = None,
    yes: Yes = False,
) -> None:
    """Try jobs that were set aside again, as if nobody had died with them.

    Example: memlane jobs parked retry 3.1042 5.77

    Example: memlane jobs parked retry --all --tenant acme
    """
    chosen = _chosen_jobs(session, names, everything, (tenant, kind, shard), "Retry", yes)
    done = _in_batches(session.admin().retry_parked, chosen)
    session.out.result(Changed(done), f"{done} of {len(chosen)} are tried again")


@parked.command("drop")
@connected
def drop_parked(
    session: Session,
    names: Jobs = None,
    everything: All = False,
    tenant: Tenant = None,
    kind: Kind = None,
    shard: Shard = None,
    yes: Yes = False,
) -> None:
    """Give jobs up that were set aside. A memory that was not stored is forgotten for good.

    One that is stored, and only waited for its vector, stays without. Jobs that forget something are not given up.

    Example: memlane jobs parked drop 3.1042

    Example: memlane jobs parked drop --all --tenant acme --kind remember
    """
    chosen = _chosen_jobs(session, names, everything, (tenant, kind, shard), "Give up", yes)
    done = _in_batches(session.admin().drop_parked, chosen)
    session.out.result(Changed(done), f"{done} of {len(chosen)} are given up")


@strays.command("list")
@connected
def list_strays(
    session: Session, tenant: Tenant = None, task: Task = None, shard: Shard = None, limit: Limit = 50
) -> None:
    """List messages that could not be taken in, shard by shard, the oldest first; never what they say.

    Example: memlane jobs strays list --task memory.remember
    """
    found = list(islice(_strays(session, tenant, task, shard), limit))
    columns = ["id", "task", "tenant", "since", "bytes", "waits for", "reason"]
    rows = [
        (s.id, s.task, s.tenant, f"{s.since:%Y-%m-%d %H:%M}", s.bytes, _waits_for(s) or "somebody", s.reason)
        for s in found
    ]
    session.out.result(found, table("", columns, rows) if rows else "there are no strays")


@strays.command("show")
@connected
def show_stray(session: Session, id: Annotated[UUID, typer.Argument(help="The stray's.")]) -> None:
    """Show one message that could not be taken in; what it says is in the table `strays` of its shard alone.

    Example: memlane jobs strays show 5f0c1c9e-7f4e-5f5e-9a55-0c7f2f8f7c11
    """
    page = session.admin().strays_page(id=id)
    _check_found(page.strays, page.missing, f"there is no stray {id}")
    session.out.result(page.strays[0], _fields(page.strays[0]))


@strays.command("retry")
@connected
def retry_strays(
    session: Session,
    ids: Ids = None,
    everything: All = False,
    tenant: Tenant = None,
    task: Task = None,
    shard: Shard = None,
    yes: Yes = False,
) -> None:
    """Let messages be delivered again, by the next sweep; what is still wrong is kept again, under another id.

    Example: memlane jobs strays retry --all --tenant acme
    """
    chosen = _chosen_strays(session, ids, everything, (tenant, task, shard), "Deliver", yes)
    done = _in_batches(session.admin().retry_strays, chosen)
    session.out.result(Changed(done), f"{done} of {len(chosen)} are delivered again by the next sweep")


@strays.command("drop")
@connected
def drop_strays(
    session: Session,
    ids: Ids = None,
    everything: All = False,
    tenant: Tenant = None,
    task: Task = None,
    shard: Shard = None,
    yes: Yes = False,
) -> None:
    """Give messages up for good; those that only wait for their shard stay.

    Example: memlane jobs strays drop 5f0c1c9e-7f4e-5f5e-9a55-0c7f2f8f7c11
    """
    chosen = _chosen_strays(session, ids, everything, (tenant, task, shard), "Give up", yes)
    done = _in_batches(session.admin().drop_strays, chosen)
    session.out.result(Changed(done), f"{done} of {len(chosen)} are given up")


def _parked(session: Session, tenant: str | None, kind: str | None, shard: int | None) -> Iterator[ParkedJob]:
    """All parked jobs that match."""
    read = partial(session.admin().parked_page, tenant=tenant, kind=kind, shard=shard)
    for page in _pages(session, read):
        yield from page.jobs


def _strays(session: Session, tenant: str | None, task: str | None, shard: int | None) -> Iterator[Stray]:
    """All strays that match."""
    read = partial(session.admin().strays_page, tenant=tenant, task=task, shard=shard)
    for page in _pages(session, read):
        yield from page.strays


def _pages(session: Session, read: Callable[..., P]) -> Iterator[P]:
    """Page after page; a shard that does not answer is named."""
    page = read(limit=limits.PAGE_ITEMS)
    while True:
        _warn(session, page.missing)
        yield page
        if page.next is None:
            return
        page = read(limit=limits.PAGE_ITEMS, cursor=page.next)


def _warn(session: Session, missing: Sequence[int]) -> None:
    if missing:
        session.out.warn(f"without shards {', '.join(map(str, missing))}, which do not answer")


def _named(admin: Admin, name: str) -> ParkedJob:
    """The parked job of a name, or of a memory's id.

    Raises:
        NotFound: there is none.
    """
    id_ = _uuid(name)
    found = admin.parked_page(id=id_) if id_ is not None else admin.parked_page(job=name)
    _check_found(found.jobs, found.missing, f"no job {name} is parked")
    return found.jobs[0]


def _check_found(found: Sequence[object], missing: Sequence[int], otherwise: str) -> None:
    """See whether anything was found.

    Raises:
        NotFound: it is not there.
        Unavailable: it may be where nobody answers.
    """
    if not found and missing:
        raise Unavailable(f"{otherwise}, but for shards {', '.join(map(str, missing))}, which do not answer")
    if not found:
        raise NotFound(otherwise)


def _uuid(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None


def _chosen(named: Sequence[T] | None, filters: Sequence[object], everything: bool, matching: Iterable[T]) -> list[T]:
    """What is meant: those that are named, or all that match now.

    Args:
        named: if any are.
        filters: what was said of those that are not named.
        everything: whether all that match are meant.
        matching: finds them when it is gone through.
    """
    filtered = any(one is not None for one in filters)
    if bool(named) == everything or (named and filtered):
        raise InvalidInput([FieldError("--all", "either name some, or take all that the filters match with --all")])
    return list(named or matching)


def _chosen_jobs(
    session: Session, names: Sequence[str] | None, everything: bool, filters: Filters, verb: str, yes: bool
) -> list[str]:
    """The names of the jobs that are meant."""
    found = _chosen(names, filters, everything, (job.job for job in _parked(session, *filters)))
    if names:
        admin = session.admin()
        return [name if _uuid(name) is None else _named(admin, name).job for name in found]
    _confirm(verb, len(found), "parked jobs", yes)
    return found


def _chosen_strays(
    session: Session, ids: Sequence[UUID] | None, everything: bool, filters: Filters, verb: str, yes: bool
) -> list[UUID]:
    """The ids of the strays that are meant; of those that match only such that wait for no shard."""
    matching = (stray.id for stray in _strays(session, *filters) if stray.waits_for is None)
    found = _chosen(ids, filters, everything, matching)
    if not ids:
        _confirm(verb, len(found), "strays", yes)
    return found


def _confirm(verb: str, count: int, what: str, yes: bool) -> None:
    if count and not yes:
        typer.confirm(f"{verb} {count} {what}?", abort=True)


def _in_batches(work: Callable[[Sequence[T]], int], chosen: Sequence[T]) -> int:
    """Do something to many, as many at once as a request may name; how many were changed."""
    starts = range(0, len(chosen), limits.BATCH_ITEMS)
    return sum(work(chosen[start : start + limits.BATCH_ITEMS]) for start in starts)


def _fields(found: ParkedJob | Stray) -> Table:
    values = {name: getattr(found, name) for name in found.__dataclass_fields__}
    return table("", ["field", "value"], [(name, str(value)) for name, value in values.items() if value is not None])


def _waits_for(stray: Stray) -> str:
    if stray.waits_for is None:
        return ""
    return "room" if stray.reason.startswith("held: ") else f"shard {stray.waits_for}"
