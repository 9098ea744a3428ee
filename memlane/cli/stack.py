"""up, down, demo, migrate: a whole system on this machine. These need memlane[server]."""

import shutil
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from memlane.cli.ingest import ingest_file
from memlane.cli.memories import hits_table
from memlane.cli.operate import ledger_text
from memlane.cli.output import Output
from memlane.cli.session import Json
from memlane.client import Client
from memlane.errors import Misconfigured, Unauthorized
from memlane.files import read_questions

if TYPE_CHECKING:
    from memlane.config.settings import Settings
    from memlane.embedded.folder import Folder

Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="MEMLANE_DATA", help="Where the data is; in your home directory unless set."),
]
Nodes = Annotated[int | None, typer.Option(min=1, max=64, help="Postgres nodes; fixed when the data is created.")]
Shards = Annotated[int | None, typer.Option(min=1, max=256, help="Logical shards; fixed when the data is created.")]
Workers = Annotated[int | None, typer.Option(min=1, max=64, help="Processes that finish jobs.")]
Standbys = Annotated[
    int | None, typer.Option(min=0, max=5, help="Standbys of each node, which confirm what is written.")
]
ReplicationOption = Annotated[
    Literal["durability", "availability"] | None,
    typer.Option(help="When no standby lives: refuse what is handed over, the default, or go on with an alarm."),
]
Embedder = Annotated[str | None, typer.Option(help="minilm (offline, the default), openai or hash (tests).")]
Port = Annotated[int, typer.Option(min=0, max=65535, envvar="MEMLANE_PORT", help="Of the gateway; 0 for any.")]
FlowerPort = Annotated[
    int, typer.Option(min=0, max=65535, envvar="MEMLANE_FLOWER_PORT", help="Of Flower; 0, the default, for any.")
]

_DEMO_QUESTIONS = 4


def up(
    data: Data = None,
    nodes: Nodes = None,
    shards: Shards = None,
    workers: Workers = None,
    standbys: Standbys = None,
    replication: ReplicationOption = None,
    embedder: Embedder = None,
    port: Port = 8777,
    flower_port: FlowerPort = 0,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not show the logs.")] = False,
    as_json: Json = False,
) -> None:
    """Start the whole system on this machine: Postgres, Redis, workers, beats, the gateway and Flower.

    Example: memlane up --detach
    """
    out = Output(as_json)
    folder = folder_of(data)
    asked: dict[str, int | str | None] = {"nodes": nodes, "shards": shards, "workers": workers, "embedder": embedder}
    asked |= {"standbys": standbys, "replication": replication}
    if detach:
        _up_detached(out, folder, asked, ["--port", str(port), "--flower-port", str(flower_port)])
        return
    run = server()
    with run.running(folder, asked, run.Ports(port, flower_port), _reporter(out)) as (_, supervisor):
        _show(out, folder)
        out.line("Ctrl-C stops everything.")
        view = None if quiet or as_json else run.LogView(folder.logs)
        supervisor.watch()
        if view is not None:
            view.close()
    out.line("stopped")


def _up_detached(out: Output, folder: "Folder", asked: dict[str, int | str | None], ports: list[str]) -> None:
    arguments = ["--data", str(folder.path), *ports]
    arguments += [part for name, value in asked.items() if value is not None for part in (f"--{name}", str(value))]
    server().start_detached(folder, arguments)
    _show(out, folder)
    out.line(f"`memlane down --data {folder.path}` stops it.")


def down(data: Data = None, as_json: Json = False) -> None:
    """Stop the stack that runs in the background, or in another terminal. Its data stays.

    Example: memlane down
    """
    out = Output(as_json)
    folder = folder_of(data)
    stopped = server().stop_detached(folder)
    out.result({"stopped": stopped}, "stopped" if stopped else f"no stack runs in {folder.path}")


def env(data: Data = None, as_json: Json = False) -> None:
    """Print where the stack on this machine is and its keys, as variables of the environment.

    Example: eval "$(memlane env)"
    """
    out = Output(as_json)
    folder = folder_of(data)
    found = _environment(folder)
    out.result(found, [f"export {name}={value}" for name, value in found.items()])


def demo(
    file: Annotated[Path | None, typer.Argument(help="A LoCoMo file; a conversation of our own without it.")] = None,
    data: Data = None,
    embedder: Embedder = None,
    port: Port = 8777,
    flower_port: FlowerPort = 0,
) -> None:
    """Start the stack, take in a conversation, and recall from it.

    Without a terminal it ends by itself; with one the stack stays up until Ctrl-C.

    Example: memlane demo
    """
    out = Output()
    folder = folder_of(data)
    run = server()
    conversation = file or Path(str(files("memlane.examples") / "conversation.json"))
    read_questions(conversation)  # so that a file which is none is refused before anything is started
    if folder.in_use():
        state = folder.state()
        if state is None or not state.ready:
            raise Misconfigured(f"the stack in {folder.path} is just starting or stopping: try again in a moment")
        _converse(out, state.url, folder, conversation)
        return
    with run.running(folder, {"embedder": embedder}, run.Ports(port, flower_port), _reporter(out)) as (
        stack,
        supervisor,
    ):
        _converse(out, stack.url, folder, conversation)
        if out.terminal:
            out.line("The stack stays up; Ctrl-C stops everything.")
            supervisor.watch()
    out.line(f"stopped; `{_command()} up` starts it again with its data")


def _converse(out: Output, url: str, folder: "Folder", conversation: Path) -> None:
    """Take a conversation in, ask about it, and show that everything adds up."""
    questions = read_questions(conversation)[:_DEMO_QUESTIONS]
    with Client(url, folder.secrets().tenant_key) as client:
        done = ingest_file(client, out, conversation, wait=True)
        out.result(None, f"{done.accepted} memories taken in, {done.duplicates} were there already")
        for question in questions:
            recalled = client.recall(question.agent, question.text, limit=3)
            out.result(None, [f"\n? {question.text}", hits_table(recalled)])
        out.result(None, ["", *ledger_text(client.ledger())])
    _show(out, folder)


AdminKeyFile = Annotated[
    Path | None, typer.Option(help="A file with an admin key, which is made good if there is none yet.")
]


def migrate(
    post: Annotated[bool, typer.Option("--post", help="No process of an older version runs any more.")] = False,
    admin_key_file: AdminKeyFile = None,
    as_json: Json = False,
) -> None:
    """Bring the schemas of the nodes in MEMLANE_NODES up to this version; a new cluster is created.

    Run it before the processes are replaced, which go on meanwhile, and with --post after. The embedded stack
    does this by itself. Running it twice, or from two machines at once, does no harm.

    Example: MEMLANE_NODES='{"node-1": "postgresql://..."}' memlane migrate
    """
    server()
    from memlane.config.settings import load_settings
    from memlane.storage.migrator import migrate as run
    from memlane.tasks.embedders import model_of

    out = Output(as_json)
    settings = load_settings()
    done = run(settings, model_of(settings), post=post)
    text: list[Any] = [*done.applied, "up to date", *done.advice]
    if done.waiting:
        text.append(f"{len(done.waiting)} steps wait until no older process runs: then `memlane migrate --post`")
    if admin_key_file is not None:
        text.append(_first_admin_key(settings, admin_key_file))
    if done.lacking:
        text.append(
            "memories may lack vectors of the current model: `memlane embed --everybody` asks for the missing ones"
        )
    out.result(done, text)


def _first_admin_key(settings: "Settings", file: Path) -> str:
    """Make the key in a file the admin's, unless there is an admin key already; what came of it.

    Raises:
        Misconfigured: the file cannot be read, or holds no key.
    """
    from memlane.storage import tenants
    from memlane.tasks.lane import Lane

    try:
        key = file.read_text().strip()
    except OSError as error:
        raise Misconfigured(f"{file} cannot be read: {error.strerror}") from None
    lane = Lane(settings, "migrate")
    lane.open()
    try:
        control = lane.cluster.control
        admins = tenants.create_first_admin_key(control, key) or tenants.authenticate(control, key).principal.admin
    except Unauthorized as error:
        return f"the key in {file} was not taken: {error}, and an admin key there is already or was"
    else:
        return f"the key in {file} is {'the admin' if admins else 'a tenant'}'s"
    finally:
        lane.close()


def _show(out: Output, folder: "Folder") -> None:
    """Where everything is."""
    found = _environment(folder)
    url = found["MEMLANE_URL"]
    lines = [f"gateway   {url}", f"API docs  {url}/docs", f"Flower    {found['MEMLANE_FLOWER_URL']}"]
    lines += [f"data      {folder.path}", ""]
    lines += [f"export {name}={found[name]}" for name in ("MEMLANE_URL", "MEMLANE_API_KEY")]
    value = {name.removeprefix("MEMLANE_").lower(): value for name, value in found.items()}
    out.result({**value, "docs": f"{url}/docs", "data": str(folder.path)}, "\n".join(lines))


def _environment(folder: "Folder") -> dict[str, str]:
    """Where a running stack is, and its keys: for tenants, for the admin, for producers.

    Raises:
        Misconfigured: none runs there.
    """
    from memlane.embedded.redis import uri
    from memlane.embedded.stack import FLOWER_USER

    state, secrets = folder.running(), folder.secrets()
    if state is None:
        raise Misconfigured(f"no stack runs in {folder.path}: start one with `memlane up`")
    return {
        "MEMLANE_URL": state.url,
        "MEMLANE_API_KEY": secrets.tenant_key,
        "MEMLANE_ADMIN_KEY": secrets.admin_key,
        "MEMLANE_BROKER_URL": uri(state.redis, secrets.redis),
        "MEMLANE_FLOWER_URL": state.flower,
        "MEMLANE_FLOWER_USER": FLOWER_USER,
        "MEMLANE_FLOWER_PASSWORD": secrets.flower,
    }


def _command() -> str:
    """How to call this program here: by its name if that finds it."""
    found = shutil.which("memlane")
    return "memlane" if found and Path(found).samefile(sys.argv[0]) else sys.argv[0]


def _reporter(out: Output) -> Callable[[str], None]:
    def report(what: str) -> None:
        out.line(f"[dim]·[/dim] {what}")

    return report


def folder_of(data: Path | None) -> "Folder":
    """The data directory that is meant: the one given, or the usual."""
    server()
    from memlane.embedded.folder import Folder, default_folder

    return Folder(data or default_folder())


def settings_of(data: Path | None) -> "Settings":
    """The settings that name the nodes: those of the environment, or of the stack that runs on this machine.

    Raises:
        Misconfigured: there are none.
    """
    from memlane.config.settings import load_settings

    settings = load_settings()
    if settings.nodes:
        one_of_two(data)
        return settings
    folder = folder_of(data)
    state = folder.running()
    if state is None:
        raise Misconfigured(f"no nodes are set in MEMLANE_NODES, and no stack runs in {folder.path}")
    from memlane.embedded import postgres, redis

    secrets, shape = folder.secrets(), folder.shape()
    return load_settings(
        nodes={name: postgres.uri(address, secrets.postgres) for name, address in state.nodes.items()},
        broker_url=redis.uri(state.redis, secrets.redis),
        redis_url=redis.uri(state.redis, secrets.redis, 1),
        **({"embedder": shape.embedder} if shape is not None else {}),
    )


def one_of_two(data: Path | None) -> None:
    """Refuse a data directory where MEMLANE_NODES names nodes as well.

    Raises:
        Misconfigured: both are named.
    """
    if data is not None:
        raise Misconfigured(f"both MEMLANE_NODES and the data directory {data} are named: which is meant?")


def server() -> Any:
    """The server's half, imported only when a command needs it: the light client does without.

    Raises:
        Misconfigured: it is not installed.
    """
    try:
        from memlane.embedded import run
    except ImportError as error:
        raise Misconfigured(
            f"this command needs the server: pip install 'memlane[server]' ({error.name} is missing)"
        ) from None
    return run
