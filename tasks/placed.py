"""Items on their way in: each with its place in the batch and its identity."""

from dataclasses import dataclass
from uuid import UUID

from memlane.contract import MemoryItem


@dataclass(frozen=True, slots=True)
class Placed:
    """An item with its place in the batch, its identity and the hash of its text."""

    place: int
    item: MemoryItem
    id: UUID
    hash: bytes

    @property
    def identity(self) -> tuple[str, UUID]:
        """What makes it the same as another."""
        return self.item.agent, self.id
