"""The pace at which a provider is asked: its limits, shared by all processes."""

from hashlib import blake2b

import structlog

from memlane.config.settings import EmbedderName, Settings
from memlane.tasks.embedders import model_of
from memlane.tasks.pace.alone import AlonePace
from memlane.tasks.pace.contract import Limits, Pace, Turn
from memlane.tasks.pace.line import Line
from memlane.tasks.pace.shared import SharedPace

__all__ = ["Limits", "Pace", "Turn", "make_pace"]

log = structlog.get_logger(__name__)

_CLEANUP_S = 5.0
"""What a request may take beyond its timeout before its place is given to another."""


def make_pace(settings: Settings) -> Pace:
    """The pace of the provider that the settings name, made after the fork; nothing is connected yet.

    It is shared through Redis. Without Redis each process keeps its own part of the limits. A model on this machine has
    no limits unless some are set, and nobody else to agree with.
    """
    limits = Limits(settings.provider_rpm, settings.provider_tpm, settings.provider_concurrency)
    alone = AlonePace(limits.divided(settings.provider_share))
    url = settings.marks_url
    if limits == Limits() and (url is None or settings.embedder is not EmbedderName.OPENAI):
        return alone
    if url is None:
        log.warning("pace.alone", why="there is no Redis", processes=settings.provider_share)
        return alone
    return SharedPace(Line(url, _name(settings), limits, settings.embed_timeout_s + _CLEANUP_S), alone)


def _name(settings: Settings) -> str:
    """Of the line before this provider; two models of one provider have lines of their own."""
    parts = (settings.embedder.value, settings.openai_base_url or "", model_of(settings).name)
    return blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()
