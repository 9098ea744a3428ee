"""The schedule: which duty is due when. Two beats send it; a duty sees to it that it runs once."""

from typing import Any

from memlane.beat.duties import SWEEP, periods
from memlane.config.settings import Settings


def schedule(settings: Settings, beat: str | None = None) -> dict[str, dict[str, Any]]:
    """Celery beat's schedule. The messages name a duty, and are worth nothing when the next one is there.

    Args:
        settings: this process's.
        beat: the name of this process, if it is a beat: the sweep's messages bear it, by which beats are seen to live.
    """
    return {
        duty: {
            "task": f"beat.{duty}",
            "schedule": every_s,
            "options": {"expires": 2 * every_s},
            "kwargs": {"beat": beat} if beat and duty == SWEEP else {},
        }
        for duty, every_s in periods(settings).items()
    }
