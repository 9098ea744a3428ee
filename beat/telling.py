"""Telling: what is told to the channels is tried a few times, ever later; one that is dead harms nothing."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from pydantic import SecretStr

from memlane.beat.channels import tell

log = structlog.get_logger(__name__)

T = TypeVar("T")

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


def tell_each(claim: Callable[[], T | None], told: Callable[[T], bool], stop: Callable[[], bool]) -> int:
    """Tell what is due, one after the other; how much was told.

    After one that no channel took the others wait: where one is dead, each would take its time.

    Args:
        claim: takes the next that is due, so that nobody else tells it; None: there is none.
        told: tells it; whether a channel took it.
        stop: whether the time for it is over.
    """
    count = 0
    while count < AT_ONCE and not stop() and (due := claim()) is not None and told(due):
        count += 1
    return count
