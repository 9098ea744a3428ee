"""ingest: a file of memories through the front door, batch by batch."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from memlane.cli.output import Output
from memlane.cli.session import Session, connected
from memlane.client import Client
from memlane.client.receipts import LiveReceipt
from memlane.contract import State
from memlane.files import Line, read_memories

T = TypeVar("T")

_BATCH = 200


@dataclass
class Ingested:
    """What became of a file."""

    accepted: int = 0
    duplicates: int = 0
    bad: list[str] = field(default_factory=list)


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
) -> None:
    """Take in a file of memories. Bad lines are listed, the others go in; the exit code is 1 if there were any.

    Example: memlane ingest memories.jsonl
    """
    with session.client() as client:
        done = ingest_file(client, session.out, file, wait=wait)
    for line in done.bad:
        session.out.warn(f"{file}: {line}")
    text = f"{done.accepted} accepted, {done.duplicates} there already, {len(done.bad)} bad"
    session.out.result(done, text)
    if done.bad:
        raise typer.Exit(1)


def ingest_file(client: Client, out: Output, file: Path, *, wait: bool) -> Ingested:
    """Take in a file with progress bars, and wait until it is searchable if asked.

    Raises:
        InvalidInput: it is not a file of memories.
        WaitTimeout: it was not searchable within ten minutes.
    """
    done = Ingested()
    receipts: list[LiveReceipt] = []
    with out.progress("accepted  ") as progress:
        bar = progress.add_task("", total=None)
        for batch in _batches(read_memories(file)):
            good = [line for line in batch if line.item is not None]
            done.bad += [f"line {line.number}: {line.error}" for line in batch if line.item is None]
            if good:
                receipts += _accept(client, good, done)
            progress.advance(bar, len(good))
        progress.update(bar, total=progress.tasks[0].completed)
    if not (receipts or done.duplicates or done.bad):
        out.warn(f"{file}: has no memories")
    if wait and receipts:
        _wait(client, out, receipts)
    return done


def _accept(client: Client, batch: Sequence[Line], done: Ingested) -> list[LiveReceipt]:
    result = client.remember_many([line.item for line in batch if line.item is not None])
    for rejection in result.rejections:
        done.bad.append(f"line {batch[rejection.index].number}: {rejection.detail}")
    receipts = [receipt for receipt in result.receipts if receipt is not None]
    done.accepted += sum(receipt.state is State.ACCEPTED for receipt in receipts)
    done.duplicates += sum(receipt.state is not State.ACCEPTED for receipt in receipts)
    return [receipt for receipt in receipts if not receipt.reached.final]


def _wait(client: Client, out: Output, receipts: Sequence[LiveReceipt]) -> None:
    with out.progress("searchable") as progress:
        bar = progress.add_task("", total=len(receipts))
        for part in _batches(receipts):
            client.wait(part, "searchable", timeout=600)
            progress.advance(bar, len(part))


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
