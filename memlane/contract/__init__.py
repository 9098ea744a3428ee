"""The contract: the types and limits that agent apps, the gateway and the workers agree on."""

from memlane.contract.cost import AtLimit, Budget, Period, Spending, Usage, UsageBy
from memlane.contract.ledger import Event, Ledger
from memlane.contract.memory import Embedding, Memory, MemoryItem, MemoryUpdate, Page, Version, key_id, spoken
from memlane.contract.parked import Parked, ParkedPage
from memlane.contract.patterns import Pattern
from memlane.contract.recall import Filters, Hit, PageRequest, Parts, Recalled, RecallRequest
from memlane.contract.receipt import BatchResult, Receipt, Rejection
from memlane.contract.states import State
from memlane.contract.tiers import Tier, Use

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
    "Pattern",
    "Period",
    "RecallRequest",
    "Recalled",
    "Receipt",
    "Rejection",
    "Spending",
    "State",
    "Tier",
    "Usage",
    "UsageBy",
    "Use",
    "Version",
    "key_id",
    "spoken",
]
