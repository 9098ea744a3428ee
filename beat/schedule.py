"""The schedule: which duty is due when. Two beats send it; a duty sees to it that it runs once."""

from collections.abc import Mapping
from typing import Any

from memlane.config.settings import Settings


def schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Celery beat's schedule. The messages name a duty, and are worth nothing when the next one is there."""
    return {
        duty: {"task": f"beat.{duty}", "schedule": every_s, "options": {"expires": 2 * every_s}}
        for duty, every_s in periods(settings).items()
    }


def periods(settings: Settings) -> Mapping[str, float]:
    """How often each duty is due, in seconds."""
    return {
        "sweep": settings.sweep_every_s,
        "analyze": float(settings.analyze_every_s),
        "expire": float(settings.expire_every_s),
        "budgets": float(settings.budgets_every_s),
    }
