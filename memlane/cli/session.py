"""How a command finds its server: by options, by the environment, or the stack that runs on this machine."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from memlane.admin import Admin
from memlane.cli.output import Output
from memlane.client import Client
from memlane.errors import Misconfigured

Url = Annotated[str | None, typer.Option("--url", envvar="MEMLANE_URL", help="Of the gateway.")]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="MEMLANE_API_KEY", help="Of the tenant, or the admin's.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar="MEMLANE_DATA", help="Data directory of the stack on this machine; yours unless set."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

_COMMON = {"url": (Url, None), "api_key": (ApiKey, None), "data": (Data, None), "as_json": (Json, False)}


@dataclass(frozen=True, slots=True)
class Session:
    """A command's server and its output."""

    url: str
    api_key: str
    admin_key: str
    out: Output
    flower: str = ""
    """Flower's URL, where the server is the stack on this machine."""
    local: bool = False
    """Whether the server is the stack on this machine."""

    def client(self) -> Client:
        """The tenant's client."""
        return Client(self.url, self.api_key)

    def admin(self) -> Admin:
        """The admin's client."""
        return Admin(self.url, self.admin_key)


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first parameter is a session, the options that say which server."""
    return _given(command, open_session)


def perhaps_connected(command: Callable[..., None]) -> Callable[..., None]:
    """As `connected`, for a command that does without a server as well: the session's URL is then empty."""

    def open_if_any(url: str | None, api_key: str | None, data: Path | None, as_json: bool) -> Session:
        try:
            return open_session(url, api_key, data, as_json)
        except Misconfigured:
            if url is not None:
                raise
            return Session("", "", "", Output(as_json))

    return _given(command, open_if_any)


def _given(command: Callable[..., None], opened: Callable[..., Session]) -> Callable[..., None]:
    """Give a command the options that say which server, and the session that they open."""
    signature = inspect.signature(command)
    own = list(signature.parameters.values())[1:]
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in _COMMON.items()
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        options = {name: given.pop(name) for name in _COMMON}
        command(opened(**options), **given)

    run.__signature__ = signature.replace(parameters=[*own, *common])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [*own, *common]}
    return run


def open_session(url: str | None, api_key: str | None, data: Path | None, as_json: bool) -> Session:
    """The server that the options name, or the stack in the data directory; a key that is given is used with either.

    Whoever can read the data directory is its admin, whatever the key.

    Raises:
        Misconfigured: neither is there.
    """
    out = Output(as_json)
    if api_key == "":
        raise Misconfigured("the API key is empty")
    if url is None:
        return _local(data, api_key, out)
    if api_key is None:
        raise Misconfigured("an API key is needed with --url: --api-key or MEMLANE_API_KEY")
    here = _local_at(url, data)
    if here is not None:
        return replace(here, api_key=api_key, out=out)
    return Session(url.rstrip("/"), api_key, api_key, out)


def _local_at(url: str, data: Path | None) -> Session | None:
    """The stack on this machine, if that is the one at this address."""
    try:
        local = _local(data, None, Output())
    except Misconfigured:
        return None
    return local if local.url == url.rstrip("/") else None


def _local(data: Path | None, api_key: str | None, out: Output) -> Session:
    try:
        from memlane.embedded.folder import Folder, default_folder  # only with memlane[server]
    except ImportError:
        raise Misconfigured(
            "no server is named: set MEMLANE_URL and MEMLANE_API_KEY, or use --url and --api-key"
        ) from None
    folder = Folder(data or default_folder())
    state = folder.running()
    if state is None:
        raise Misconfigured(
            f"no stack runs in {folder.path}: start one with `memlane up`, or set MEMLANE_URL and MEMLANE_API_KEY"
        )
    secrets = folder.secrets()
    return Session(state.url, api_key or secrets.tenant_key, secrets.admin_key, out, state.flower, local=True)
