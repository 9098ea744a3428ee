"""Memories that kill whoever works on them, by SIGKILL from within, as a crash in a library would.

One whose text has `POISON` in it kills the process that remembers it, one with `SLOW_POISON` the process that embeds
it afterwards. The product knows nothing of it: `tests.poisoned` puts this around its work.
"""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from memlane.storage import memories
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim, Done, Kind
from memlane.tasks.lane import Lane
from memlane.tasks.remember import Finish, text_of
from memlane.workers import drains

POISON = "deadly nightshade"
SLOW_POISON = "death cap"

Texts = Callable[[Shard, Claim], list[str]]


def deadly(kind: Kind, poison: str, texts: Texts) -> drains.Work:
    """The work of a kind, which kills its process when it meets the poison."""
    harmless = drains.WORK[kind]

    def meet(shard: Shard, claim: Claim) -> None:
        if any(poison in text for text in texts(shard, claim)):
            os.kill(os.getpid(), signal.SIGKILL)

    def work(lane: Lane, shard: Shard, claim: Claim) -> Done:
        meet(shard, claim)
        return harmless.work(lane, shard, claim)

    def together(lane: Lane, parts: Sequence[tuple[Shard, Claim]]) -> Sequence[Finish]:
        for part in parts:
            meet(*part)
        assert harmless.together is not None, "nobody else calls this"
        return harmless.together(lane, parts)

    return replace(harmless, work=work, together=together if harmless.together else None)


def to_remember(_shard: Shard, claim: Claim) -> list[str]:
    """The texts of remember jobs."""
    return [text_of(job) for job in claim.jobs]


def to_embed(shard: Shard, claim: Claim) -> list[str]:
    """The texts of embed jobs."""
    return list(memories.texts(shard, claim).values())


def poisoned() -> Mapping[Kind, drains.Work]:
    """The product's work, with the deadly around it."""
    return {
        **drains.WORK,
        Kind.REMEMBER: deadly(Kind.REMEMBER, POISON, to_remember),
        Kind.EMBED: deadly(Kind.EMBED, SLOW_POISON, to_embed),
    }
