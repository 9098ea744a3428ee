"""What `celery -A memlane.workers.main` starts: the worker app with the settings of the environment."""

import sys

from memlane.config.settings import load_settings
from memlane.errors import MemlaneError
from memlane.workers.app import make_worker_app

try:
    app = make_worker_app(load_settings())
except MemlaneError as error:
    sys.exit(f"memlane: {error}")  # Celery would show a stack trace
