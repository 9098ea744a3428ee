"""backup, restore: a whole cluster into a folder, and out of it again. These need memlane[server]."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from memlane.cli.output import Output, table
from memlane.cli.session import Data, Json
from memlane.cli.stack import folder_of, one_of_two, server, settings_of
from memlane.errors import Misconfigured

if TYPE_CHECKING:
    from memlane.config.settings import Settings
    from memlane.storage.backup.manifest import Manifest


def backup(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of its own, which is made.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Back up a whole cluster while it works: the nodes in MEMLANE_NODES, or the stack that runs on this machine.

    Every memory that had been accepted when its shard was dumped is in it, with its job if it was not stored yet.
    The folder holds all content: only its owner may read it.

    Example: memlane backup /srv/backups/2026-11-21
    """
    server()
    from memlane.storage.backup.dump import backup as run

    out = Output(as_json)
    settings = settings_of(data)
    with out.progress("dumped    ") as progress:
        bar = progress.add_task("", total=None)
        made = run(settings, target.absolute(), lambda _: progress.advance(bar))
        progress.update(bar, total=len(made.schemas))
    out.result(made, [_schemas(made), f"{made.rows} memories in {target}"])


def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="What `memlane backup` has made.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", envvar="MEMLANE_DATA", help="A new data directory for a stack on this machine."),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Postgres nodes of that stack; one unless set.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Restore a backup into the nodes in MEMLANE_NODES, as many as you like, or into a new stack on this machine.

    The nodes have to be empty of memlane's schemas. The backup is checked before anything is done.

    Example: memlane restore /srv/backups/2026-11-21 --data /srv/memlane
    """
    run = server()
    from memlane.config.settings import load_settings
    from memlane.embedded.folder import Shape
    from memlane.storage.backup import manifest
    from memlane.storage.backup.restore import check_shards
    from memlane.storage.backup.restore import restore as restored

    out = Output(as_json)
    found = manifest.read(source)
    settings = load_settings()
    target: AbstractContextManager[Settings] = nullcontext(settings)
    if not settings.nodes:
        if data is None:
            raise Misconfigured("where to? Name empty nodes in MEMLANE_NODES, or a new data directory with --data")
        check_shards(settings, found)
        shape = Shape(nodes or 1, found.shard_count, run.default_workers(), _embedder_of(found))
        target = run.servers(folder_of(data), shape, lambda what: out.line(f"[dim]·[/dim] {what}"))
    else:
        one_of_two(data)
    if settings.nodes and nodes is not None:
        raise Misconfigured("--nodes is for a stack on this machine; MEMLANE_NODES names the nodes already")
    with target as into, out.progress("restored  ") as progress:
        bar = progress.add_task("", total=len(found.schemas))
        done = restored(into, source, lambda _: progress.advance(bar))
    rows = [(shard, node) for shard, node in sorted(done.nodes.items())]
    words = f"{done.manifest.rows} memories restored"
    after = [] if settings.nodes else [f"`memlane up --data {folder_of(data).path}` starts it"]
    out.result(done, [table("", ["shard", "node"], rows), words, *after])


def _embedder_of(found: "Manifest") -> str:
    """The embedder whose model the backup has as the current one."""
    from memlane.config.settings import EmbedderName, load_settings
    from memlane.tasks.embedders import model_of

    for name in EmbedderName:
        if model_of(load_settings(embedder=name)).name == found.current_model:
            return name.value
    return EmbedderName.OPENAI.value


def _schemas(made: "Manifest") -> Table:
    rows = [(d.schema, d.rows.get("memories"), round(d.bytes / 1e6, 2)) for d in made.schemas]
    return table("", ["schema", "memories", "MB"], rows)
