"""Telling: what is told to the channels is tried a few times, ever later; one that is dead harms nothing."""

from collections.abc import Sequence

import structlog
from pydantic import SecretStr

from memlane.beat.channels import tell

log = structlog.get_logger(__name__)

TRIES = 6
"""How often something is told to channels of which none takes it, over 25 minutes; then it is given up."""

PAUSE_S = 55.0
"""The pause after the first try, shorter than a minute and longer than a try may take; then it grows."""

AT_ONCE = 50
"""The most that one run tells."""


def taken(urls: Sequence[SecretStr], title: str, body: str, tries: int) -> bool:
    """Tell the channels; whether one took it, or there is none.

    Args:
        urls: apprise's.
        title: what it is about, in a line.
        body: all of it.
        tries: how often it was tried, this time among them.
    """
    outcomes = tell(urls, title, body)
    for outcome in outcomes:
        if outcome.why is not None:
            log.warning("alert.not_taken", channel=outcome.channel, why=outcome.why, tries=tries)
    if not urls or any(outcome.why is None for outcome in outcomes):
        return True
    if tries >= TRIES:
        log.error("alert.given_up", title=title)
    return False
