"""The clients: what agent apps hold."""

from memlane.client.asynchronous import AsyncClient
from memlane.client.receipts import AsyncBatch, AsyncReceipt, Batch, LiveReceipt
from memlane.client.synchronous import Client

__all__ = ["AsyncBatch", "AsyncClient", "AsyncReceipt", "Batch", "Client", "LiveReceipt"]
