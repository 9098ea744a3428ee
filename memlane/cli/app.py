"""The command line: which commands there are."""

from typing import Annotated

import typer

from memlane import __version__
from memlane.cli import backup, evaluate, ingest, memories, operate, stack, transfer, upkeep
from memlane.cli.alerts import alerts
from memlane.cli.bench import bench
from memlane.cli.budget import budget
from memlane.cli.cache import cache
from memlane.cli.cost import cost
from memlane.cli.doctor import doctor
from memlane.cli.jobs import jobs
from memlane.cli.model import model
from memlane.cli.nodes import nodes
from memlane.cli.profile import profile
from memlane.cli.top import top

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

_STACK = "A system on this machine"
_MEMORIES = "Memories"
_OPERATE = "Operation"

app.command(rich_help_panel=_STACK)(stack.up)
app.command(rich_help_panel=_STACK)(stack.down)
app.command(rich_help_panel=_STACK)(stack.demo)
app.command(rich_help_panel=_STACK)(stack.env)
app.add_typer(model, name="model", rich_help_panel=_STACK)
app.command(rich_help_panel=_MEMORIES)(memories.remember)
app.command(rich_help_panel=_MEMORIES)(memories.recall)
app.command(rich_help_panel=_MEMORIES)(memories.update)
app.command(rich_help_panel=_MEMORIES)(memories.history)
app.command(rich_help_panel=_MEMORIES)(memories.use)
app.command(rich_help_panel=_MEMORIES)(memories.forget)
app.command(rich_help_panel=_MEMORIES)(memories.patterns)
app.command("list", rich_help_panel=_MEMORIES)(memories.list_memories)
app.command(rich_help_panel=_MEMORIES)(ingest.ingest)
app.command("export", rich_help_panel=_MEMORIES)(transfer.export)
app.command("import", rich_help_panel=_MEMORIES)(transfer.import_file)
app.command("eval", rich_help_panel=_MEMORIES)(evaluate.evaluate)
app.command(rich_help_panel=_OPERATE)(memories.embed)
app.command(rich_help_panel=_OPERATE)(memories.optimize)
app.command(rich_help_panel=_OPERATE)(operate.status)
app.command(rich_help_panel=_OPERATE)(doctor)
app.command(rich_help_panel=_OPERATE)(top)
app.command(rich_help_panel=_OPERATE)(operate.ledger)
app.command(rich_help_panel=_OPERATE)(operate.shards)
app.command(rich_help_panel=_OPERATE)(upkeep.vacuums)
app.add_typer(cache, name="cache", rich_help_panel=_OPERATE)
app.command(rich_help_panel=_OPERATE)(stack.migrate)
app.command(rich_help_panel=_OPERATE)(backup.backup)
app.command(rich_help_panel=_OPERATE)(backup.restore)
app.add_typer(nodes, name="nodes", rich_help_panel=_OPERATE)
app.add_typer(operate.tenants, name="tenants", rich_help_panel=_OPERATE)
app.add_typer(operate.keys, name="keys", rich_help_panel=_OPERATE)
app.add_typer(jobs, name="jobs", rich_help_panel=_OPERATE)
app.add_typer(budget, name="budget", rich_help_panel=_OPERATE)
app.add_typer(cost, name="cost", rich_help_panel=_OPERATE)
app.add_typer(upkeep.tune, name="tune", rich_help_panel=_OPERATE)
app.add_typer(alerts, name="alerts", rich_help_panel=_OPERATE)
app.add_typer(profile, name="profile", rich_help_panel=_OPERATE)
app.add_typer(bench, name="bench", rich_help_panel=_OPERATE)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"memlane {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Durable, searchable long-term memory for AI agents.

    To begin with:

    memlane up --detach
    memlane remember agent-1 "Caroline prefers green tea" --wait
    memlane recall agent-1 "what does she drink?"
    """
