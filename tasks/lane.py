"""The lane: everything that a task needs, made once per process and handed to each."""

from collections.abc import Callable
from functools import cached_property

from memlane.config.settings import EmbedderName, Settings
from memlane.storage.agents import AgentNumbers
from memlane.storage.cluster import Cluster
from memlane.storage.jobs import Kind
from memlane.storage.models import Model, table_name
from memlane.tasks.embedders import called, make_embedder, model_of
from memlane.tasks.pace import make_pace
from memlane.tasks.provider import Provider
from memlane.tasks.spending import Purse

Wake = Callable[[Kind, int], None]
"""Tells the workers that a shard has jobs of a kind; returns at once and never fails."""


def nobody(_kind: Kind, _shard: int) -> None:
    """Wake nobody: the sweep will find the work."""


class Lane:
    """Settings, storage, provider and the way to wake workers, for one process.

    Make it after the fork: it owns connections and threads.
    """

    def __init__(self, settings: Settings, role: str, wake: Wake = nobody, pool_size: int | None = None) -> None:
        self.settings = settings
        self.cluster = Cluster(settings, role, pool_size or settings.pool_size)
        self.numbers = AgentNumbers(settings.agent_cache)
        self.wake = wake
        self.model: Model = model_of(settings)
        self.table = table_name(self.model.name)
        """The current model's table of vectors, in every shard."""
        local = settings.embedder is not EmbedderName.OPENAI
        self.purse = Purse(self.cluster.control, called(settings), settings.reservation_s, 0 if local else None)

    @cached_property
    def provider(self) -> Provider:
        """The source of vectors; a local model is loaded on first use."""
        return Provider(make_embedder(self.settings), make_pace(self.settings), self.purse)

    def open(self) -> None:
        """Start connecting."""
        self.cluster.open()

    def close(self) -> None:
        """Close all connections."""
        self.cluster.close()
