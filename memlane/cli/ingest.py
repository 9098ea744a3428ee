"""ingest: a file of memories through the front door, batch by batch."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

import typer

from memlane.cli.output import Output
from memlane.cli.session import Session, connected
from memlane.client import Client
from memlane.client.receipts import LiveReceipt
from memlane.contract import MemoryItem, State, limits
from memlane.files import Line, read_memories

T = TypeVar("T")

_BATCH = 200

_PART_BYTES = limits.BODY_BYTES // 4
"""Most bytes of lines in one request; they may grow threefold on the way, where signs are escaped."""


@dataclass
class Ingested:
    """What became of a file."""

    accepted: int = 0
    duplicates: int = 0
    forgotten: int = 0
    bad: list[str] = field(default_factory=list)
    ids: dict[UUID, UUID] = field(default_factory=dict)
    """What memories with a key are called here, by what they were called where they were exported."""


@connected
def ingest(
    session: Session,
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON Lines (content, agent and the optional fields), or a LoCoMo file; - is standard input."
        ),
    ],
    wait: Annotated[bool, typer.Option(help="Wait until all can be found by meaning.")] = True,
    batch: Annotated[
        int,
        typer.Option(min=1, max=limits.BATCH_ITEMS, help="How many in one request; no more than a rate lets through."),
    ] = _BATCH,
) -> None:
    """Take in a file of memories. Bad lines are listed, the others go in; the exit code is 1 if there were any.

    Example: memlane ingest memories.jsonl
    """
    with session.client() as client:
        done = ingest_file(client, session.out, file, wait=wait, size=batch)
    show_ingested(session.out, file, done)


def show_ingested(out: Output, file: Path, done: Ingested) -> None:
    """Say what became of a file; the command ends with 1 if a line was bad."""
    for line in done.bad:
        out.warn(f"{file}: {line}")
    text = f"{done.accepted} accepted, {done.duplicates} there already, {len(done.bad)} bad"
    if done.forgotten:
        text += f", {done.forgotten} were forgotten here before and stay so"
    value = {name: getattr(done, name) for name in ("accepted", "duplicates", "forgotten", "bad")}
    out.result(value, text)
    if done.bad:
        raise typer.Exit(1)


def ingest_file(
    client: Client, out: Output, file: Path, *, wait: bool, agent: str | None = None, size: int = _BATCH
) -> Ingested:
    """Take in a file with progress bars, and wait until it is searchable if asked.

    Args:
        client: the tenant's.
        out: where progress is shown.
        file: JSON Lines or LoCoMo.
        wait: whether to wait until all can be found by meaning.
        agent: whose memories they become, if not those that the file names.
        size: how many go in one request.

    Raises:
        InvalidInput: it is not a file of memories.
        WaitTimeout: it was not searchable within ten minutes.
    """
    done = Ingested()
    receipts: list[LiveReceipt] = []
    with out.progress("accepted  ") as progress:
        bar = progress.add_task("", total=None)
        for batch in _batches(read_memories(file), size):
            done.bad += [f"line {line.number}: {line.error}" for line in batch if line.item is None]
            for part in _parts([line for line in batch if line.item is not None]):
                receipts += _accept(client, part, done, agent)
                progress.advance(bar, len(part))
        progress.update(bar, total=progress.tasks[0].completed)
    if not (receipts or done.duplicates or done.forgotten or done.bad):
        out.warn(f"{file}: has no memories")
    if wait and receipts:
        _wait(client, out, receipts)
    return done


def _parts(batch: Sequence[Line]) -> Iterator[list[Line]]:
    """Parts of a batch that are small enough for a request.

    In none is a memory beside one whose place it takes and whose id here is not known yet.
    """
    part: list[Line] = []
    for line in batch:
        awaited = line.item is not None and line.item.supersedes in {earlier.was for earlier in part} - {None}
        if part and (awaited or sum(earlier.bytes for earlier in part) + line.bytes > _PART_BYTES):
            yield part
            part = []
        part.append(line)
    if part:
        yield part


def _accept(client: Client, batch: Sequence[Line], done: Ingested, agent: str | None) -> list[LiveReceipt]:
    result = client.remember_many([_item(line.item, agent, done) for line in batch if line.item is not None])
    for line, receipt in zip(batch, result.receipts, strict=True):
        if line.was is not None and receipt is not None:
            done.ids[line.was] = receipt.id
    for rejection in result.rejections:
        done.bad.append(f"line {batch[rejection.index].number}: {rejection.detail}")
    receipts = [receipt for receipt in result.receipts if receipt is not None]
    done.accepted += sum(receipt.state is State.ACCEPTED for receipt in receipts)
    done.duplicates += sum(receipt.state is State.DUPLICATE for receipt in receipts)
    done.forgotten += sum(receipt.state is State.FORGOTTEN for receipt in receipts)
    return [receipt for receipt in receipts if not receipt.reached.final]


def _item(item: MemoryItem, agent: str | None, done: Ingested) -> MemoryItem:
    """A memory as it is handed over: of another agent, and with the ids that others got here."""
    changed: dict[str, object] = {"agent": agent} if agent is not None else {}
    if item.supersedes in done.ids:
        changed["supersedes"] = done.ids[item.supersedes]
    return item.model_copy(update=changed)


def _wait(client: Client, out: Output, receipts: Sequence[LiveReceipt]) -> None:
    with out.progress("searchable") as progress:
        bar = progress.add_task("", total=len(receipts))
        for part in _batches(receipts, _BATCH):
            client.wait(part, "searchable", timeout=600)
            progress.advance(bar, len(part))


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
