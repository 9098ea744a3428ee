"""export, import: an agent's memories as a file, with their vectors if that is asked for."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from memlane.cli.ingest import ingest_file, show_ingested
from memlane.cli.session import Session, connected
from memlane.contract import Memory

_DERIVED = {"created_at", "version", "changed_at", "superseded_by"}
"""What a memory gets anew where it is taken in."""


@connected
def export(
    session: Session,
    agent: Annotated[str, typer.Argument(help="Whose memories.")],
    vectors: Annotated[bool, typer.Option("--vectors", help="Each with its vector of the current model.")] = False,
) -> None:
    """Write an agent's memories to standard output as JSON Lines, oldest first; superseded ones are in it.

    Example: memlane export agent-1 --vectors > agent-1.jsonl
    """
    with session.client() as client:
        for memory in client.memories(agent, oldest_first=True, vectors=vectors, include_superseded=True):
            sys.stdout.write(json.dumps(_line(memory), ensure_ascii=False, separators=(",", ":")) + "\n")


def _line(memory: Memory) -> dict[str, Any]:
    """A memory as `memlane import` and `memlane ingest` read it."""
    fields: dict[str, Any] = {name: getattr(memory, name) for name in memory.__slots__ if name not in _DERIVED}
    fields |= {
        "id": str(memory.id),
        "occurred_at": memory.occurred_at.isoformat(),
        "expires_at": memory.expires_at.isoformat() if memory.expires_at else None,
        "supersedes": str(memory.supersedes) if memory.supersedes else None,
        "embedding": memory.embedding.model_dump() if memory.embedding else None,
    }
    return {name: value for name, value in fields.items() if value not in (None, (), {}) and value is not False}


@connected
def import_file(
    session: Session,
    file: Annotated[Path, typer.Argument(help="What `memlane export` has written; - is standard input.")],
    agent: Annotated[str | None, typer.Option(help="Whose memories they become; those of the file's agents.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until all can be found by meaning.")] = True,
) -> None:
    """Take in what `memlane export` has written. Vectors of the current model are used as they are.

    Example: memlane import agent-1.jsonl --agent agent-2
    """
    with session.client() as client:
        done = ingest_file(client, session.out, file, wait=wait, agent=agent)
    show_ingested(session.out, file, done)
