"""The contract: the types and limits that agent apps, the gateway and the workers agree on."""

from memlane.contract.cost import AtLimit, Budget, Period, Spending, Usage, UsageBy
from memlane.contract.ledger import Event, Ledger
from memlane.contract.memory import Embedding, Memory, MemoryItem, MemoryUpdate, Page, Version, key_id, spoken
from memlane.contract.parked import Parked, ParkedPage
from memlane.contract.recall import Filters, Hit, PageRequest, Parts, Recalled, RecallRequest
from memlane.contract.receipt import BatchResult, Receipt, Rejection
from memlane.contract.states import State

__all__ = [
    "AtLimit",
    "BatchResult",
    "Budget",
    "Embedding",
    "Event",
    "Filters",
    "Hit",
    "Ledger",
    "Memory",
    "MemoryItem",
    "MemoryUpdate",
    "Page",
    "PageRequest",
    "Parked",
    "ParkedPage",
    "Parts",
    "Period",
    "RecallRequest",
    "Recalled",
    "Receipt",
    "Rejection",
    "Spending",
    "State",
    "Usage",
    "UsageBy",
    "Version",
    "key_id",
    "spoken",
]
