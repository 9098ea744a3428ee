"""What `celery -A memlane.workers.main` starts: the worker app with the settings of the environment."""

from celery import Celery

from memlane.config.settings import load_settings
from memlane.errors import MemlaneError
from memlane.workers.app import make_worker_app


def _make() -> Celery:
    """The app; ends the process with one clear line if the settings are wrong, where Celery would show a stack."""
    try:
        return make_worker_app(load_settings())
    except MemlaneError as error:
        raise SystemExit(f"memlane: {error}") from None


app = _make()
