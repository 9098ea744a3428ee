"""Who asks: API keys, looked up in control and trusted for a few seconds, or longer while control is down."""

from time import monotonic

import structlog
from fastapi import Request

from memlane.errors import Forbidden, Unauthorized, Unavailable
from memlane.gateway.threads import LOOK_S, Threads
from memlane.storage import tenants
from memlane.storage.nodes import Node
from memlane.storage.tenants import Principal

log = structlog.get_logger(__name__)

_BRIEFLY_S = 0.5
"""How long control is asked about a key that we know; then it goes on being good."""

_AT_ONCE, _MOST_WAITING = 4, 256
"""How many keys are looked up at once, and how many more may wait; apart from what else control is asked."""

_MOST_KEYS = 10_000
"""How many keys are remembered at most."""


class Keys:
    """The keys that were seen lately, and who holds them."""

    def __init__(self, control: Node, trust_s: float) -> None:
        self._control = control
        self._threads = Threads("control", _AT_ONCE, _MOST_WAITING, LOOK_S)
        self._trust_s = trust_s
        self._known: dict[str, tuple[float, Principal]] = {}
        self._revoked: set[str] = set()

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.close()

    async def holder(self, key: str) -> Principal:
        """Who holds a key.

        Raises:
            Unauthorized: nobody.
            Unavailable: control does not answer, and the key was not seen before.
        """
        seen, principal = self._known.get(key, (0.0, None))
        if principal is not None and monotonic() - seen < self._trust_s:
            return principal
        try:
            found = await self._threads.run(
                lambda: self._authenticate(key), LOOK_S if principal is None else _BRIEFLY_S
            )
        except Unavailable:
            if principal is None:
                raise
            log.warning("keys.control_down", tenant=principal.tenant)
            found = principal
        if tenants.prefix_of(key) in self._revoked:  # while we asked
            raise Unauthorized("this API key was revoked")
        if len(self._known) >= _MOST_KEYS:
            self._known.clear()
        self._known[key] = (monotonic(), found)
        return found

    def _authenticate(self, key: str) -> Principal:
        """Ask control. What it says counts also when nobody waits for it any more."""
        try:
            return tenants.authenticate(self._control, key)
        except Unauthorized:
            self._known.pop(key, None)
            raise

    def revoked(self, prefix: str) -> None:
        """A key was revoked through this gateway; the others find out when they ask again."""
        self._revoked.add(prefix)
        self._known = {key: known for key, known in self._known.items() if tenants.prefix_of(key) != prefix}


async def principal(request: Request) -> Principal:
    """Who sent a request.

    Raises:
        Unauthorized: there is no key, or it is not good.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Unauthorized("an API key is needed: Authorization: Bearer mlk_...")
    keys: Keys = request.app.state.gateway.keys
    return await keys.holder(key.strip())


async def tenant(request: Request) -> str:
    """The tenant whose key a request carries.

    Raises:
        Forbidden: it is the admin's, who sees no memory.
    """
    asking = await principal(request)
    if asking.tenant is None:
        raise Forbidden("the admin key sees no memories: use a tenant's key")
    return asking.tenant


async def admin(request: Request) -> Principal:
    """The admin.

    Raises:
        Forbidden: it is a tenant's key.
    """
    asking = await principal(request)
    if not asking.admin:
        raise Forbidden("this needs the admin key")
    return asking
