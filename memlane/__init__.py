"""memlane: durable, searchable long-term memory for AI agents.

from memlane import Client

client = Client("http://127.0.0.1:8777", api_key="mlk_...")
client.remember("agent-1", "Caroline prefers green tea").wait("searchable")
for hit in client.recall("agent-1", "what does she drink?"):
    print(hit.score, hit.memory.content)
"""

from memlane.client import AsyncClient, Client
from memlane.contract import (
    AtLimit,
    BatchResult,
    Budget,
    Embedding,
    Event,
    Filters,
    Hit,
    Ledger,
    Memory,
    MemoryItem,
    MemoryUpdate,
    Page,
    Parked,
    ParkedPage,
    Parts,
    Pattern,
    Period,
    Recalled,
    Receipt,
    Rejection,
    Spending,
    State,
    Usage,
    UsageBy,
    Version,
)
from memlane.errors import MemlaneError

__version__ = "0.2.0"

__all__ = [
    "AsyncClient",
    "AtLimit",
    "BatchResult",
    "Budget",
    "Client",
    "Embedding",
    "Event",
    "Filters",
    "Hit",
    "Ledger",
    "MemlaneError",
    "Memory",
    "MemoryItem",
    "MemoryUpdate",
    "Page",
    "Parked",
    "ParkedPage",
    "Parts",
    "Pattern",
    "Period",
    "Recalled",
    "Receipt",
    "Rejection",
    "Spending",
    "State",
    "Usage",
    "UsageBy",
    "Version",
    "__version__",
]
