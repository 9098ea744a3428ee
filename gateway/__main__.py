"""What `python -m memlane.gateway` starts: the gateway with the settings of the environment."""

import os
import sys
from types import FrameType

import uvicorn

from memlane.config.logging import configure_logging
from memlane.config.sentry import configure_sentry
from memlane.config.settings import load_settings
from memlane.errors import MemlaneError
from memlane.gateway.app import create_app
from memlane.gateway.protocol import BoundedProtocol
from memlane.storage.connections import check_nodes
from memlane.tasks.embedders import check_embedder


class _Server(uvicorn.Server):
    """Can be asked to stop also while it waits for a first node; uvicorn looks only once it has started."""

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
    server = _Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=10,
        )
    )
    server.run()
    if not server.started:
        sys.exit(3)


if __name__ == "__main__":
    main()
