"""bench ingest, bench recall: figures of a stack that is up."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from memlane.cli.output import table
from memlane.cli.session import Session, connected
from memlane.errors import FieldError, InvalidInput, Misconfigured

if TYPE_CHECKING:
    from memlane.bench.figures import Circumstances, Percentiles

bench = typer.Typer(no_args_is_help=True, help="Benchmarks against a stack that is up.")


@bench.callback()
def _group() -> None:
    """Benchmarks against a stack that is up."""


@bench.command("ingest")
@connected
def ingest(
    session: Session,
    memories: Annotated[int, typer.Option(min=1, help="How many are sent.")] = 10_000,
    agents: Annotated[int, typer.Option(min=1, help="To how many agents they belong.")] = 100,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="How many in one request.")] = 100,
    producers: Annotated[int, typer.Option(min=1, help="How many requests side by side.")] = 4,
    provider: Annotated[str | None, typer.Option(help="The provider's URL, to count its inputs at /stats.")] = None,
    idle: Annotated[bool, typer.Option(help="Send a batch only when the one before is searchable.")] = False,
) -> None:
    """How fast memories are taken in and searchable. Every text is a fresh one.

    Example: memlane bench ingest --memories 20000 --batch 100 --json
    """
    from memlane.bench.ingest import Load, bench_ingest

    load = Load(memories, agents, batch, producers, provider, idle)
    with session.out.progress("searchable") as progress:
        bar = progress.add_task("", total=memories)
        figures = bench_ingest(
            session.url, session.api_key, session.admin(), load, lambda count: progress.advance(bar, count)
        )
    rows: list[tuple[Any, ...]] = [
        ("accepted / s", figures.accepted_per_s),
        ("searchable / s", figures.searchable_per_s),
        ("accept, ms", _percentiles(figures.accept_ms)),
        ("searchable, ms", _percentiles(figures.searchable_ms)),
    ]
    if figures.provider is not None:
        rows.append(("provider", f"{figures.provider.requests} requests, {figures.provider.inputs} inputs"))
    session.out.result(figures, [table("", ["", "figure"], rows), _circumstances(figures.circumstances)])
    if figures.provider is not None and figures.provider.inputs != memories:
        raise Misconfigured(
            f"the provider was asked for {figures.provider.inputs} inputs, not {memories}: a cache helped"
        )


@bench.command("recall")
@connected
def recall(
    session: Session,
    sizes: Annotated[str, typer.Option(help="Memories of an agent, several with commas.")] = "100,1000,10000",
    queries: Annotated[int, typer.Option(min=1, help="Questions to each.")] = 200,
) -> None:
    """How fast questions are answered, by agent size. Each question is asked once.

    Example: memlane bench recall --sizes 1000 --json
    """
    from memlane.bench.recall import bench_recall

    try:
        wanted = [int(size) for size in sizes.split(",")]
    except ValueError:
        raise InvalidInput([FieldError("sizes", "must be numbers with commas between them")]) from None
    with session.out.progress("asked     ") as progress:
        bar = progress.add_task("", total=len(wanted) * (queries + 10))
        found = bench_recall(
            session.url, session.api_key, session.admin(), wanted, queries, lambda count: progress.advance(bar, count)
        )
    rows = [
        (f.memories, _percentiles(f.recall_ms), _percentiles(f.embed_ms), _percentiles(f.beside_ms))
        for f in found.sizes
    ]
    columns = ["memories", "recall, ms", "of that embedding", "the rest"]
    session.out.result(found, [table("", columns, rows), _circumstances(found.circumstances)])


def _percentiles(times: "Percentiles") -> str:
    return f"p50 {times.p50:.1f}, p95 {times.p95:.1f}, p99 {times.p99:.1f}"


def _circumstances(found: "Circumstances") -> str:
    kept = ", ".join(f"{name} {value}" for name, value in found.durability.items())
    return f"memlane {found.version}, {found.model}, {found.machine}, {found.at:%Y-%m-%d}; {kept}"
