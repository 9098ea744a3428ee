"""What `celery -A memlane.workers.main` starts: the worker app with the settings of the environment."""

from memlane.config.settings import load_settings
from memlane.workers.app import make_worker_app

app = make_worker_app(load_settings())
