"""The good-bye of a beat, which has no database: a last sweep's message that names it, so that nobody misses it."""

import structlog
from celery import Celery

from memlane.beat.duties import SWEEP
from memlane.storage.failures import reason_of

log = structlog.get_logger(__name__)

_WITHIN_S = 3.0
"""How long the broker may take to be there: whoever stops a beat waits for it."""


_WORTH_S = 60.0
"""How long somebody has to hear of it: by then the beat was missed, or nobody missed it."""


def say_gone(app: Celery) -> None:
    """Say that this beat ends in good order. A broker that is down is told nothing, and the beat is missed for a while.

    By a connection of its own: the signal that ends a beat may have come in the middle of a message.
    """
    entry = app.conf.beat_schedule[SWEEP]
    if not entry["kwargs"]:
        return
    try:
        with app.connection_for_write(connect_timeout=_WITHIN_S) as connection:
            kwargs = {**entry["kwargs"], "gone": True}
            app.send_task(entry["task"], kwargs=kwargs, connection=connection, retry=False, expires=_WORTH_S)
    except Exception as error:  # noqa: BLE001  # kombu raises what the transport's library raises
        log.warning("beat.not_said", why=reason_of(error) or type(error).__name__)
