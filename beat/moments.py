"""Moments: notes which number was given last by now, so that the age of memories can be told from their numbers."""

from memlane.beat.duty import Slice, on_each
from memlane.storage import moments as kept
from memlane.tasks.lane import Lane


def moments(lane: Lane, slice_: Slice) -> str:
    """Note it on all shards."""
    return f"{len(list(on_each('moments', lane.cluster.shards(), slice_, kept.note)))} shards"
