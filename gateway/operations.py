"""What hooks are told of a request: which operation it is, and the trace that its caller is in."""

from fastapi import Request

from memlane.tasks.hooks import Operation


def operation(request: Request, name: str, tenant: str, shard: int | None = None, items: int = 1) -> Operation:
    """The operation that a request asks for.

    Args:
        request: it.
        name: what it asks for.
        tenant: who asks.
        shard: where; None for several.
        items: of how many.
    """
    return Operation(name, tenant, shard, items, continues=request.headers.get("traceparent"))
