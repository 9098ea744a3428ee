"""Moments: which number was given last at a time. Numbers rise with time, so they tell the age of memories."""

from collections.abc import Sequence

from memlane.storage import queries
from memlane.storage.cluster import Shard

_SQL = queries.load("moments")


def note(shard: Shard) -> None:
    """Note the number that was given last, and let go of moments that nobody asks for any more."""
    shard.write(_SQL["note"], {})


def numbers_at(shard: Shard, agos_s: Sequence[float]) -> list[int]:
    """The numbers up to which memories are older than that, in seconds; 0 where none is, or nobody has noted it."""
    return [number for (number,) in shard.run(_SQL["numbers_at"], {"agos_s": list(agos_s)})]
