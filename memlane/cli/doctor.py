"""doctor: how each component does, what is wrong, and what to do next; also where the gateway does not answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from memlane.admin import Admin
from memlane.cli.output import Output, table
from memlane.cli.session import ApiKey, Data, Json, Url, open_session
from memlane.contract.health import Band, Health
from memlane.errors import MemlaneError, Misconfigured, Unauthorized

if TYPE_CHECKING:
    from memlane.config.settings import Settings

_CODES = {Band.GOOD: 0, Band.FAIR: 0, Band.STRAINED: 1, Band.FAILING: 1, Band.CRITICAL: 2}
"""The exit code of each band."""

_WAIT_S = 10.0
"""How long the gateway is waited for; it answers within two seconds, whatever hangs behind it."""

_NO_GATEWAY = 2
"""The exit code where the gateway does not answer, whatever else is found."""


@dataclass(frozen=True, slots=True)
class Checkup:
    """What the doctor found.

    Attributes:
        gateway: where it answers; missing if it does not.
        why: why it does not.
        next_steps: what to look at then.
        health: the whole, as the gateway sees it, or as it is seen from here; missing where nothing can be seen.
    """

    gateway: str | None = None
    why: str | None = None
    next_steps: tuple[str, ...] = ()
    health: Health | None = None


def doctor(url: Url = None, api_key: ApiKey = None, data: Data = None, as_json: Json = False) -> None:
    """How each component does, what is wrong, and what to do next; with the admin key.

    Where the gateway does not answer, that is said first, and what can be seen from here is looked at: the stack in the
    data directory, or the nodes and the broker of the settings. The exit code is 0 where all is good or fair, 1 where
    something is strained or failing, 2 where something is critical or the gateway does not answer.

    Example: memlane doctor
    """
    found = _checkup(url, api_key, data, as_json)
    Output(as_json).result(found, _text(found))
    raise typer.Exit(_code(found))


def _checkup(url: str | None, api_key: str | None, data: Path | None, as_json: bool) -> Checkup:
    try:
        session = open_session(url, api_key, data, as_json)
    except Misconfigured as error:
        return _from_here(str(error), data)
    try:
        with Admin(session.url, session.admin_key, timeout=_WAIT_S, retries=0) as admin:
            return Checkup(session.url, health=admin.health())
    except Unauthorized:
        raise
    except MemlaneError as error:
        return _from_here(f"the gateway at {session.url} does not answer: {error}", data, stack=session.local)


def _from_here(why: str, data: Path | None, *, stack: bool = True) -> Checkup:
    """What can be seen without a gateway; with the stack of this machine, if that is what was asked for."""
    try:
        settings, steps = _settings_here(data, stack=stack)
        health = _look(settings) if settings is not None else None
    except ImportError:
        return Checkup(why=why, next_steps=("look on a machine with memlane[server], or at the gateway's own log",))
    except MemlaneError as error:
        return Checkup(why=why, next_steps=(str(error),))
    return Checkup(why=why, next_steps=steps, health=health)


def _settings_here(data: Path | None, *, stack: bool) -> "tuple[Settings | None, tuple[str, ...]]":
    """The servers of the stack that runs here, or of the settings, and what to look at about the gateway."""
    from memlane.config.settings import load_settings
    from memlane.embedded.folder import Folder, default_folder
    from memlane.embedded.postgres import uri as postgres_uri
    from memlane.embedded.redis import uri as redis_uri

    folder = Folder(data or default_folder())
    state = folder.running() if stack else None
    if state is not None:
        secrets = folder.secrets()
        nodes = {name: postgres_uri(address, secrets.postgres) for name, address in state.nodes.items()}
        down = [process.name for process in state.processes if not process.up]
        steps = (
            f"the stack runs in {folder.path} (process {state.pid}): its logs are in {folder.logs}",
            *((f"down: {', '.join(down)}; the supervisor starts them again",) if down else ()),
        )
        return load_settings(nodes=nodes, broker_url=redis_uri(state.redis, secrets.redis)), steps
    settings = load_settings()
    if settings.nodes:
        return settings, ("start the gateway: python -m memlane.gateway; its log says why it ended",)
    if not stack:
        return None, (
            "look at its machine: its log says why it ended; MEMLANE_NODES here would show what is behind it",
        )
    return None, ("start a stack with `memlane up`, or set MEMLANE_URL and MEMLANE_API_KEY, or MEMLANE_NODES",)


def _look(settings: "Settings") -> Health:
    """The whole, as it is seen from here."""
    from memlane.beat.duties import due
    from memlane.config.logging import configure_logging
    from memlane.tasks.health.look import look
    from memlane.tasks.lane import Lane
    from memlane.workers.app import make_app
    from memlane.workers.broker import broker_status

    configure_logging(settings.model_copy(update={"log_level": "ERROR"}))  # what it finds it says itself
    lane = Lane(settings, "doctor")
    lane.ask_broker = lambda: broker_status(make_app(settings), settings.broker_url.get_secret_value())
    lane.open()
    try:
        return look(lane, due(settings), at_once=True).health
    finally:
        lane.close()


def _code(found: Checkup) -> int:
    if found.gateway is None:
        return _NO_GATEWAY
    return _CODES[found.health.band] if found.health is not None else 0


def _text(found: Checkup) -> list[Table | str]:
    """What was found, for people."""
    lines: list[Table | str] = []
    if found.why is not None:
        lines += [found.why, *(f"  {step}" for step in found.next_steps)]
    if found.health is None:
        return lines
    health = found.health
    what = f"memlane at {found.gateway}" if found.gateway else "what is behind the gateway, as seen from here"
    lines.append(f"{what}: {health.score}, {health.band}")
    rows = [
        (part.name, *((part.score, part.band.value) if part.known else ("-", "not known")), len(part.findings))
        for part in health.components
    ]
    lines.append(table("", ["component", "score", "state", "findings"], rows))
    for part in health.components:
        for one in part.findings:
            lines += [f"{one.subject}: {one.reason}", f"  {one.advice}"]
    lines += [f"since {i.began_at:%Y-%m-%d %H:%M}: {i.level}: {i.title}" for i in health.incidents]
    return lines + [f"would help: {one.advice}: {one.reason}" for one in health.advice]
