"""The lane: everything that a task needs, made once per process and handed to each."""

from collections.abc import Callable
from functools import cached_property

from memlane.config.settings import EmbedderName, Settings
from memlane.contract.status import BrokerStatus
from memlane.storage.agents import AgentNumbers
from memlane.storage.cluster import Cluster, MakeNode
from memlane.storage.jobs import Kind
from memlane.storage.models import Model, table_name
from memlane.storage.nodes import Node
from memlane.tasks.ages import KnownAges
from memlane.tasks.caches.levels import Caches
from memlane.tasks.embedders import called, make_embedder, model_of
from memlane.tasks.health.asking import Asking
from memlane.tasks.hooks import load_hooks
from memlane.tasks.measures import Measures
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

    def __init__(
        self,
        settings: Settings,
        role: str,
        wake: Wake = nobody,
        pool_size: int | None = None,
        make_node: MakeNode = Node,
    ) -> None:
        self.settings = settings
        self.measures = Measures(role)
        self.asking = Asking()
        """Who was asked how it is, and hangs."""
        self.ask_broker: Callable[[], BrokerStatus] | None = None
        """Asks the broker how it is; nobody does where it is not given."""
        self.hooks = load_hooks(settings, self.measures)
        """What is told of each operation."""
        self.cluster = Cluster(settings, role, pool_size or settings.pool_size, make_node)
        self.numbers = AgentNumbers(settings.agent_cache)
        self.ages = KnownAges()
        self.caches = Caches(settings, self.measures)
        """What was answered, and the vectors of questions."""
        self.wake = wake
        self.model: Model = model_of(settings)
        self.table = table_name(self.model.name)
        """The current model's table of vectors, in every shard."""
        local = settings.embedder is not EmbedderName.OPENAI
        self.purse = Purse(self.cluster.control, called(settings), settings.reservation_s, 0 if local else None)

    @cached_property
    def provider(self) -> Provider:
        """The source of vectors; a local model is loaded on first use."""
        return Provider(make_embedder(self.settings), make_pace(self.settings), self.purse, self.hooks)

    def open(self) -> None:
        """Start connecting."""
        self.cluster.open()

    def drop_caches(self) -> None:
        """Give up what is kept only to save time: it is read again when it is needed."""
        self.numbers.clear()
        self.caches.drop_here()

    def close(self) -> None:
        """Close all connections, and let hooks send what is left."""
        self.cluster.close()
        self.caches.close()
        self.hooks.close()
