"""What `celery -A tests.poisoned worker` starts: the product's worker, but it dies of some memories; see `tests.poison`."""

from memlane.workers import drains
from memlane.workers.main import app
from tests.poison import poisoned

drains.WORK = poisoned()

__all__ = ["app"]
