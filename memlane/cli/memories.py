"""remember, update, recall, list, history, use, forget: memories one at a time, and questions."""

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Table

from memlane.cli import upkeep
from memlane.cli.output import table
from memlane.cli.session import Session, connected
from memlane.client import Client
from memlane.contract import Filters, Hit, Memory, Recalled, Receipt
from memlane.errors import FieldError, InvalidInput

Agent = Annotated[str, typer.Argument(help="Whose memory it is.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="Only these kinds.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Only with all of these tags.")]
Thread = Annotated[str | None, typer.Option(help="Only of this conversation.")]
Since = Annotated[datetime | None, typer.Option(help="Only what happened then or later.")]
Until = Annotated[datetime | None, typer.Option(help="Only what happened before.")]
MinImportance = Annotated[float, typer.Option(help="Only what is at least so important.")]
Pinned = Annotated[bool | None, typer.Option("--pinned/--not-pinned", help="Only what is pinned, or is not.")]
Superseded = Annotated[bool, typer.Option("--superseded", help="Also what a newer memory has taken the place of.")]
Id = Annotated[UUID, typer.Argument(help="The memory's id.")]


@connected
def remember(
    session: Session,
    agent: Agent,
    content: Annotated[str, typer.Argument(help="What is remembered.")],
    key: Annotated[str | None, typer.Option(help="Your own name for it; sent again it is recognised.")] = None,
    kind: Annotated[str, typer.Option(help="A word to filter by.")] = "fact",
    importance: Annotated[float, typer.Option(help="0 to 1.")] = 0.5,
    tag: Annotated[list[str] | None, typer.Option(help="A word to filter by; may be repeated.")] = None,
    metadata: Annotated[str | None, typer.Option(help="A JSON object.")] = None,
    thread: Annotated[str | None, typer.Option(help="The conversation that it belongs to.")] = None,
    speaker: Annotated[str | None, typer.Option(help="Who said it.")] = None,
    occurred_at: Annotated[datetime | None, typer.Option(help="When it happened, in UTC; now unless given.")] = None,
    expires_at: Annotated[datetime | None, typer.Option(help="From when on it is forgotten, in UTC.")] = None,
    supersedes: Annotated[UUID | None, typer.Option(help="The memory that it takes the place of.")] = None,
    pinned: Annotated[bool, typer.Option("--pin", help="Nothing may let it fade.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until it can be found by meaning.")] = False,
) -> None:
    """Remember something.

    Example: memlane remember agent-1 "Caroline prefers tea" --tag drinks
    """
    fields: dict[str, Any] = {"key": key, "kind": kind, "importance": importance, "tags": tag or ()}
    fields |= {"metadata": _object(metadata), "thread": thread, "speaker": speaker, "occurred_at": occurred_at}
    fields |= {"expires_at": expires_at, "supersedes": supersedes, "pinned": pinned}
    with session.client() as client:
        receipt = client.remember(agent, content, **fields)
        if wait:
            receipt = receipt.wait("searchable")
    plain = Receipt(receipt.id, receipt.agent, receipt.state, receipt.first, receipt.error)
    session.out.result(plain, f"{receipt.state} {receipt.id}")


@connected
def update(
    session: Session,
    agent: Agent,
    id: Id,
    content: Annotated[str | None, typer.Option(help="What it says from now on.")] = None,
    kind: Annotated[str | None, typer.Option(help="A word to filter by.")] = None,
    importance: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="In place of its tags; may be repeated.")] = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="It has none any more.")] = False,
    metadata: Annotated[str | None, typer.Option(help="A JSON object, in place of what it has.")] = None,
    occurred_at: Annotated[datetime | None, typer.Option(help="When it happened, in UTC.")] = None,
    expires_at: Annotated[datetime | None, typer.Option(help="From when on it is forgotten, in UTC.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="It does not expire any more.")] = False,
    supersedes: Annotated[UUID | None, typer.Option(help="The memory that it takes the place of.")] = None,
    pin: Annotated[bool | None, typer.Option("--pin/--unpin", help="Nothing may let it fade, or it may.")] = None,
) -> None:
    """Change a memory. New content keeps the id and its history, and gets a new vector.

    Example: memlane update agent-1 01a1fc5a-509c-77d8-b69e-adda0a22813b --pin
    """
    given: dict[str, Any] = {"content": content, "kind": kind, "importance": importance, "occurred_at": occurred_at}
    given |= {"expires_at": expires_at, "supersedes": supersedes, "pinned": pin, "tags": tag or None}
    given |= {"metadata": None if metadata is None else _object(metadata)}
    fields = {name: value for name, value in given.items() if value is not None}
    fields |= {"tags": ()} if no_tags else {}
    fields |= {"expires_at": None} if keep else {}
    with session.client() as client:
        memory = client.update(agent, id, **fields)
    session.out.result(memory, f"version {memory.version}: {said(memory)}")


@connected
def history(session: Session, agent: Agent, id: Id) -> None:
    """Show what a memory said before, newest first.

    Example: memlane history agent-1 01a1fc5a-509c-77d8-b69e-adda0a22813b
    """
    with session.client() as client:
        found = client.history(agent, id)
    rows = [(v.version, f"{v.replaced_at:%Y-%m-%d %H:%M:%S}", v.content) for v in found]
    shown = table("", ["version", "until", "said"], rows) if rows else "it was never updated"
    session.out.result(list(found), shown)


@connected
def use(session: Session, agent: Agent, id: Id) -> None:
    """Show how a memory was used: how often it was recalled, what that still counts for, and how fresh it is.

    Example: memlane use agent-1 01a1fc5a-509c-77d8-b69e-adda0a22813b
    """
    with session.client() as client:
        found = client.use(agent, id)
    last = f"{found.last_accessed_at:%Y-%m-%d %H:%M:%S}" if found.last_accessed_at else "never"
    text = f"{found.tier}; recalls: {found.access_count}, the last {last}; resonance {found.resonance:.2f}"
    session.out.result(found, text)


@connected
def recall(
    session: Session,
    agent: Agent,
    query: Annotated[str | None, typer.Argument(help="The question.")] = None,
    also: Annotated[list[str] | None, typer.Option(help="Another agent to ask with it; may be repeated.")] = None,
    all_agents: Annotated[
        bool, typer.Option("--all-agents", help="Ask all agents of the tenant; give only the question.")
    ] = False,
    limit: Annotated[int, typer.Option(help="At most so many hits.")] = 10,
    kind: Kinds = None,
    tag: Tags = None,
    thread: Thread = None,
    since: Since = None,
    until: Until = None,
    min_importance: MinImportance = 0.0,
    pinned: Pinned = None,
    superseded: Superseded = False,
    recent: Annotated[bool, typer.Option("--recent/--no-recent", help="Also what is at most 24 hours old.")] = True,
    week: Annotated[bool, typer.Option("--week/--no-week", help="Also what is older than that, up to 7 days.")] = True,
    old: Annotated[
        bool | None, typer.Option("--old/--no-old", help="Also what is older; if it is needed unless given.")
    ] = None,
) -> None:
    """Ask an agent's memory, those of several together, or those of all.

    Example: memlane recall agent-1 "what does she drink?" --limit 5

    Example: memlane recall agent-1 "what does she drink?" --also agent-2

    Example: memlane recall --all-agents "who likes green tea?"
    """
    filters = _filters(kind, tag, thread, since, until, min_importance, pinned, superseded)
    filters |= {"include_recent": recent, "include_week": week, "include_old": old}
    with session.client() as client:
        recalled = _recalled(client, agent, query, also, limit, filters, all_agents=all_agents)
    for what in recalled.degraded:
        session.out.warn(f"degraded: {what}")
    shown = hits_table(recalled, whose=bool(also) or all_agents) if recalled.hits else "nothing found"
    session.out.result(recalled, shown)


def _recalled(
    client: Client,
    agent: str,
    query: str | None,
    also: Sequence[str] | None,
    limit: int,
    filters: dict[str, Any],
    *,
    all_agents: bool,
) -> Recalled:
    """What is asked of an agent, of several or of all; of all the only argument is the question."""
    if all_agents:
        if query is not None or also:
            raise typer.BadParameter("name no agent with --all-agents, or leave that out")
        return client.recall_all_agents(agent, limit=limit, **filters)
    if query is None:
        raise typer.BadParameter("give an agent and a question; or --all-agents and a question")
    return client.recall((agent, *also) if also else agent, query, limit=limit, **filters)


@connected
def forget(
    session: Session,
    agent: Agent,
    id: Annotated[UUID | None, typer.Argument(help="The memory's id; all of the agent's without it.")] = None,
    kind: Kinds = None,
    tag: Tags = None,
    thread: Thread = None,
    since: Since = None,
    until: Until = None,
    pinned: Pinned = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what the filters match.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before more than one memory is forgotten.")] = False,
) -> None:
    """Forget one memory, what filters match, or everything of an agent. It stays forgotten, whatever arrives later.

    Example: memlane forget agent-1 01a1fc5a-509c-77d8-b69e-adda0a22813b

    Example: memlane forget agent-1 --tag draft --dry-run
    """
    filters = _filters(kind, tag, thread, since, until, 0.0, pinned, False)
    filtered = Filters.model_validate(filters).any
    if id is not None and (filtered or dry_run):
        raise InvalidInput([FieldError("id", "goes with no filter and no dry run")])
    with session.client() as client:
        if id is not None:
            session.out.result(client.forget(agent, id), f"forgotten {id}")
            return
        if filtered or dry_run:
            _forget_matching(session, client, agent, filters, dry_run=dry_run, yes=yes)
            return
        if not yes:
            typer.confirm(f"Forget everything of agent {agent!r}?", abort=True)
        client.forget_agent(agent)
        session.out.result({"agent": agent, "state": "forgotten"}, f"forgotten: everything of {agent}")


def _forget_matching(
    session: Session, client: Client, agent: str, filters: dict[str, Any], *, dry_run: bool, yes: bool
) -> None:
    found = client.forget_matching(agent, dry_run=True, **filters)
    if dry_run or not found.matched:
        session.out.result(found, f"{found.matched} memories match")
        return
    if not yes:
        typer.confirm(f"Forget {found.matched} memories of agent {agent!r}?", abort=True)
    done = client.forget_matching(agent, **filters)
    session.out.result(done, f"{done.matched} memories are being forgotten")


@connected
def list_memories(
    session: Session,
    agent: Agent,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 20,
    kind: Kinds = None,
    tag: Tags = None,
    thread: Thread = None,
    since: Since = None,
    until: Until = None,
    min_importance: MinImportance = 0.0,
    pinned: Pinned = None,
    superseded: Superseded = False,
) -> None:
    """List an agent's memories, newest first.

    Example: memlane list agent-1 --tag drinks
    """
    with session.client() as client:
        filters = _filters(kind, tag, thread, since, until, min_importance, pinned, superseded)
        found = list(islice(client.memories(agent, **filters), limit))
    session.out.result(found, _memories_table(found) if found else "no memories")


@connected
def embed(
    session: Session,
    agent: Annotated[str | None, typer.Argument(help="Whose memories; all of the tenant's without it.")] = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Of all tenants; needs the admin key.")] = False,
) -> None:
    """Ask for the vectors that stored memories lack, as after a change of the model.

    Example: memlane embed agent-1
    """
    if everybody:
        jobs = session.admin().embed_missing()
    else:
        with session.client() as client:
            jobs = client.embed(agent=agent)
    session.out.result({"jobs": jobs}, f"{jobs} more memories get their vector; `memlane status` shows what is open")


@connected
def optimize(
    session: Session,
    agent: Annotated[str | None, typer.Argument(help="Whose memories; not with --list.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show all indexes; needs the admin key.")] = False,
) -> None:
    """Bring an agent's statistics up to date, and give it an index of its own if it is large; or show all indexes.

    Example: memlane optimize agent-1
    """
    if listed is (agent is not None):
        raise typer.BadParameter("name an agent, or say --list")
    if agent is None:
        upkeep.list_indexes(session)
        return
    with session.client() as client:
        client.optimize(agent)
    session.out.result({"agent": agent}, "asked for; `memlane status` shows the job until it is done")


@connected
def patterns(session: Session, agent: Agent) -> None:
    """Show the questions that an agent is asked again and again.

    Example: memlane patterns agent-1
    """
    with session.client() as client:
        found = client.patterns(agent)
    rows = [(one.query or one.hash[:12], one.seen, f"{one.last_at:%Y-%m-%d %H:%M:%S}") for one in found]
    shown = table("", ["question", "times", "last"], rows) if rows else "no question comes again and again"
    session.out.result(list(found), shown)


def hits_table(recalled: Recalled, *, whose: bool = False) -> Table:
    """The hits of a recall, best first; with the agent of each where several were asked."""
    columns = ["score", "similarity", "words", "when", "memory"]
    rows: list[Sequence[Any]] = [_hit(hit) for hit in recalled.hits]
    if whose:
        columns = ["agent", *columns]
        rows = [(hit.memory.agent, *row) for hit, row in zip(recalled.hits, rows, strict=True)]
    return table("", columns, rows)


def _hit(hit: Hit) -> Sequence[Any]:
    similarity = None if hit.parts.vector is None else f"{hit.parts.vector:.2f}"
    words = None if hit.parts.text is None else f"{hit.parts.text:.2f}"
    return f"{hit.score:.2f}", similarity, words, f"{hit.memory.occurred_at:%Y-%m-%d}", said(hit.memory)


def said(memory: Memory) -> str:
    """A memory's content, after its speaker."""
    return f"{memory.speaker}: {memory.content}" if memory.speaker else memory.content


def _memories_table(memories: Sequence[Memory]) -> Table:
    """The memories, with their tags; the rest is in the JSON, an id leaves little room."""
    rows = [(m.id, f"{m.occurred_at:%Y-%m-%d}", " ".join((said(m), *(f"#{tag}" for tag in m.tags)))) for m in memories]
    return table("", ["id", "when", "memory"], rows)


def _filters(
    kind: list[str] | None,
    tag: list[str] | None,
    thread: str | None,
    since: datetime | None,
    until: datetime | None,
    min_importance: float,
    pinned: bool | None,
    superseded: bool,
) -> dict[str, Any]:
    times = {"since": since, "until": until}
    rest = {"min_importance": min_importance, "pinned": pinned, "include_superseded": superseded}
    return {"kinds": tuple(kind or ()), "tags": tuple(tag or ()), "thread": thread, **times, **rest}


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidInput([FieldError("metadata", "must be a JSON object")])
    return found
