"""What `python -m memlane.gateway` starts: the gateway with the settings of the environment."""

import os
import signal
import sys
from math import ceil
from socket import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from memlane.config.logging import configure_logging
from memlane.config.sentry import configure_sentry
from memlane.config.settings import Settings, load_settings
from memlane.errors import MemlaneError
from memlane.gateway.app import create_app
from memlane.gateway.protocol import BoundedProtocol
from memlane.gateway.state import Gateway
from memlane.storage.connections import check_nodes
from memlane.tasks.embedders import check_embedder


class _Server(uvicorn.Server):
    """Can be asked to stop also while it waits for a first node; uvicorn looks only once it has started."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=BoundedProtocol,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=ceil(settings.stop_grace_s),
            )
        )

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Finish what is under way; those who only wait are told at once how far it is."""
        gateway: Gateway = self._app.state.gateway
        gateway.waiters.stop()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        super().handle_exit(sig, frame)
        if not self.started:
            os._exit(128 + sig)  # nothing is under way yet, and the loop would tell of its end with a stack trace


def main() -> None:
    """Serve until SIGTERM, then finish what is under way."""
    try:
        settings = load_settings()
        configure_logging(settings)
        configure_sentry(settings)
        check_nodes(settings)
        check_embedder(settings)
    except MemlaneError as error:
        sys.exit(f"memlane: {error}")
    server = _Server(create_app(settings), settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        # When all is done, uvicorn raises the signal again for whoever handled it before: an end in good order is 0.
        signal.signal(number, server.handle_exit)
    server.run()
    if not server.started:
        sys.exit(3)


if __name__ == "__main__":
    main()
