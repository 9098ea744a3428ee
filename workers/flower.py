"""What `python -m memlane.workers.flower` starts: Flower, which shows workers and drains, with our configuration.

Flower is built here instead of by its own command: that one takes passwords as arguments, which anybody may list, and
runs a flowerconfig.py that lies in the directory it is started in. What Flower shows comes from the events of workers:
a drain's argument is its shard, its result what it came to; the arguments of producers' tasks are masked at their
source (workers/request.py), since Flower's API shows what it gets.
"""

import os
import signal
import sys
from ipaddress import ip_address
from typing import Any

import structlog
from flower.app import Flower
from flower.options import options
from flower.urls import settings as pages

from memlane.config.logging import configure_logging
from memlane.config.settings import Settings, load_settings
from memlane.errors import MemlaneError, Misconfigured
from memlane.workers.app import make_app
from memlane.workers.broker import broker_status

log = structlog.get_logger(__name__)

_REMEMBERED = 10_000
"""Tasks that Flower remembers; it pickles them all whenever it saves."""

_SAVE_EVERY_S = 60
"""How often it saves; also when it is stopped."""

_FORGET_AFTER_S = 24 * 3600
"""When a worker that is gone leaves the metrics."""

_COLUMNS = "name,args,state,result,received,runtime,worker"


def main() -> None:
    """Serve until SIGTERM or SIGINT, then save what was seen."""
    try:
        settings = load_settings()
        configure_logging(settings)
        check(settings)
        serve(settings)
    except MemlaneError as error:
        sys.exit(f"memlane: {error}")


def check(settings: Settings) -> None:
    """Whether Flower can be run, and should.

    Raises:
        Misconfigured: others could look without a password, its file cannot be kept, or the broker does not answer.
    """
    password = settings.flower_password.get_secret_value()
    if not password and not _is_loopback(settings.flower_host):
        raise Misconfigured(f"Flower at {settings.flower_host} needs a password: set MEMLANE_FLOWER_PASSWORD")
    if not password.isascii():
        raise Misconfigured("MEMLANE_FLOWER_PASSWORD must be ASCII: browsers do not agree on anything else")
    try:
        settings.flower_db.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"{settings.flower_db.parent} cannot be made: {error.strerror}") from None
    if not broker_status(make_app(settings), settings.broker_url.get_secret_value()).up:
        raise Misconfigured("the broker does not answer: MEMLANE_BROKER_URL")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(settings: Settings) -> None:
    """Run Flower until it is asked to stop.

    Raises:
        Misconfigured: it cannot listen there.
    """
    os.umask(0o077)  # for the file in which it keeps what it saw
    app = make_app(settings)
    app.set_current()
    for name, value in _options(settings).items():
        setattr(options, name, value)
    flower = Flower(options=options, capp=app, **pages)
    try:
        port = flower.start_http_server()
    except OSError as error:
        raise Misconfigured(
            f"Flower cannot listen on {settings.flower_host}:{settings.flower_port}: {error.strerror}"
        ) from None
    for number in (signal.SIGTERM, signal.SIGINT):
        flower.io_loop.asyncio_loop.add_signal_handler(number, flower.io_loop.stop)
    flower.io_loop.add_callback(_ready, settings, port)
    flower.start()
    flower.stop()


def _options(settings: Settings) -> dict[str, Any]:
    """Flower's options; it knows them by these names."""
    password = settings.flower_password.get_secret_value()
    return {
        "address": settings.flower_host,
        "port": settings.flower_port,
        "basic_auth": [f"{settings.flower_user}:{password}"] if password else [],
        "read_only": not settings.flower_control,
        "persistent": True,
        "db": str(settings.flower_db),
        "state_save_interval": _SAVE_EVERY_S * 1000,
        "max_tasks": _REMEMBERED,
        "purge_offline_workers": _FORGET_AFTER_S,
        "tasks_columns": _COLUMNS,
        "format_task": _in_words,
        "enable_events": False,  # workers send them anyway
    }


def _in_words(task: Any) -> Any:
    """A task as the pages show it: the argument of a drain is a shard."""
    if str(task.name).startswith("drain."):
        task.args = f"shard {str(task.args).strip('(),[]')}"
    return task


def _ready(settings: Settings, port: int) -> None:
    log.info("flower.ready", host=settings.flower_host, port=port, read_only=not settings.flower_control)
    if settings.ready_file is not None:
        settings.ready_file.touch()


if __name__ == "__main__":
    main()
