"""What `python -m memlane.gateway` starts: the gateway with the settings of the environment."""

import sys

import uvicorn

from memlane.config.logging import configure_logging
from memlane.config.settings import load_settings
from memlane.errors import MemlaneError
from memlane.gateway.app import create_app
from memlane.gateway.protocol import BoundedProtocol


def main() -> None:
    """Serve until SIGTERM, then finish what is under way."""
    try:
        settings = load_settings()
        configure_logging(settings)
        uvicorn.run(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=10,
        )
    except MemlaneError as error:
        sys.exit(f"memlane: {error}")


if __name__ == "__main__":
    main()
