"""Going on: what waited for money is looked at again at once, when a budget or a price is another."""

import structlog

from memlane.errors import Unavailable
from memlane.gateway.state import Gateway
from memlane.gateway.threads import LOOK_S
from memlane.tasks import batch_embed

log = structlog.get_logger(__name__)


async def go_on(gateway: Gateway, tenant: str | None) -> None:
    """Let the vectors of a tenant, or of all, that wait for money be tried now; a shard that is down goes on later."""
    numbers = range(gateway.lane.cluster.shard_count)
    found = await gateway.threads.on_each(
        numbers, lambda number: batch_embed.resume(gateway.lane, number, tenant), LOOK_S
    )
    left = [number for number, one in zip(numbers, found, strict=True) if isinstance(one, Unavailable)]
    if left:
        log.warning("budget.not_resumed", tenant=tenant, shards=left)
