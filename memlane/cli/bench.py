"""bench ingest, bench recall: figures of a stack that is up."""

import typer

bench = typer.Typer(no_args_is_help=True, help="Benchmarks against a stack that is up.")


@bench.callback()
def _group() -> None:
    """Benchmarks against a stack that is up."""
