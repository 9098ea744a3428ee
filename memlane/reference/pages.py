"""Which pages there are, and what each is made from."""

from collections.abc import Callable, Mapping

from memlane.reference.cli import cli_page
from memlane.reference.http import http_page
from memlane.reference.metrics import metrics_page
from memlane.reference.python import python_page
from memlane.reference.settings import settings_page

PAGES: Mapping[str, Callable[[], str]] = {
    "command-line.md": cli_page,
    "http-api.md": http_page,
    "metrics.md": metrics_page,
    "python.md": python_page,
    "settings.md": settings_page,
}
"""By their file in docs/reference/."""
