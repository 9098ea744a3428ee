"""Accept rates at the gateway: counted in threads of their own, and told in the headers of each answer.

The headers are those of draft-ietf-httpapi-ratelimit-headers, as structured fields.
"""

from collections import Counter
from collections.abc import Sequence
from math import ceil

from fastapi import Request

from memlane.contract import MemoryItem
from memlane.errors import Unavailable
from memlane.gateway.problems import headers_for
from memlane.gateway.threads import Threads
from memlane.tasks.counts import PATIENCE_S, WINDOW_S
from memlane.tasks.rates import Policy, Rated, Rates

_AT_ONCE, _MOST_WAITING = 4, 256
"""How many requests are counted at once, and how many more may wait."""


class Rating:
    """The rates of tenants, as requests come.

    Args:
        rates: this process's.
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._threads = Threads("the count of rates", _AT_ONCE, _MOST_WAITING, PATIENCE_S)

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.close()

    @property
    def alone(self) -> bool:
        """Whether this gateway counts alone."""
        return self._rates.alone

    async def take(self, request: Request, tenant: str, items: Sequence[MemoryItem]) -> Rated:
        """Count the items of a request, where there is room; its answer will say how much is left."""
        if not self._rates.limited(tenant):
            return Rated()
        agents = Counter(item.agent for item in items)
        try:
            rated = await self._threads.run(lambda: self._rates.take(tenant, agents))
        except Unavailable:  # it takes too long, or too many wait
            rated = self._rates.take(tenant, agents, alone=True)
        request.state.headers = _headers(rated.policies)
        return rated

    async def show(self, request: Request, tenant: str) -> None:
        """Have the answer of a request of which nothing was counted say how much is left."""
        if headers_for(request) is None:
            await self.take(request, tenant, ())


def _headers(policies: Sequence[Policy]) -> dict[str, str]:
    if not policies:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{p.name}";q={p.quota};w={WINDOW_S}' for p in policies),
        "RateLimit": ", ".join(f'"{p.name}";r={p.left};t={max(1, ceil(p.resets_s))}' for p in policies),
    }
