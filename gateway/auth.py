"""Who asks: API keys, looked up in control and trusted for a few seconds, or longer while control is down."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from time import monotonic

import structlog
from fastapi import Request

from memlane.config.settings import Serves
from memlane.errors import Forbidden, Unauthorized, Unavailable
from memlane.gateway.threads import LOOK_S, Threads
from memlane.storage import tenants
from memlane.storage.nodes import Node
from memlane.storage.tenants import Holder, Principal

log = structlog.get_logger(__name__)

_BRIEFLY_S = 0.5
"""How long control is asked about a key that we know; then it goes on being good."""

_AT_ONCE, _MOST_WAITING = 4, 256
"""How many keys are looked up at once, and how many more may wait; apart from what else control is asked."""

_MOST_KEYS = 10_000
"""How many keys are remembered at most."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A key that control has called good."""

    principal: Principal
    asked_at: float
    """When control was asked, on the monotonic clock."""
    ends_at: float
    """When it expires, on the same clock."""


class Keys:
    """The keys that were seen lately, by their hashes, and who holds them.

    Args:
        control: where keys are kept.
        trust_s: how long a key is trusted without asking again.
        used: told the prefix of each good key that comes.
    """

    def __init__(self, control: Node, trust_s: float, used: Callable[[str], None]) -> None:
        self._control = control
        self._threads = Threads("control", _AT_ONCE, _MOST_WAITING, LOOK_S)
        self._trust_s = trust_s
        self._used = used
        self._known: dict[bytes, _Known] = {}
        self._ends_at: dict[str, float] = {}

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.close()

    async def holder(self, key: str) -> Principal:
        """Who holds a key.

        Raises:
            Unauthorized: nobody.
            Unavailable: control does not answer, and the key was not seen before.
        """
        prefix, hash_ = tenants.prefix_of(key), tenants.hashed(key)
        known = self._known.get(hash_)
        if known is None or monotonic() - known.asked_at >= self._trust_s:
            known = await self._asked(key, known)
            if len(self._known) >= _MOST_KEYS:
                self._known.clear()
            self._known[hash_] = known
        if monotonic() >= min(known.ends_at, self._ends_at.get(prefix, inf)):
            raise Unauthorized("this API key was revoked or has expired")
        self._used(prefix)
        return known.principal

    async def _asked(self, key: str, known: _Known | None) -> _Known:
        """What control says of a key; while it does not answer, what it said before."""
        begun = monotonic()
        try:
            found = await self._threads.run(lambda: self._authenticate(key), LOOK_S if known is None else _BRIEFLY_S)
        except Unavailable:
            if known is None:
                raise
            log.warning("keys.control_down", tenant=known.principal.tenant)
            return replace(known, asked_at=monotonic())
        left_s = inf if found.left_s is None else found.left_s
        return _Known(found.principal, monotonic(), begun + left_s)

    def _authenticate(self, key: str) -> Holder:
        """Ask control. What it says counts also when nobody waits for it any more."""
        try:
            return tenants.authenticate(self._control, key)
        except Unauthorized:
            self._known.pop(tenants.hashed(key), None)
            raise

    def ends(self, prefix: str, left_s: float = 0.0) -> None:
        """A key was revoked, or replaced, through this gateway; the others find out when they ask again."""
        self._ends_at[prefix] = min(monotonic() + left_s, self._ends_at.get(prefix, inf))


async def principal(request: Request) -> Principal:
    """Who sent a request.

    Raises:
        Unauthorized: there is no key, or it is not good.
        Forbidden: it is the admin's, and this gateway is for tenants alone.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Unauthorized("an API key is needed: Authorization: Bearer mlk_...")
    gateway = request.app.state.gateway
    keys: Keys = gateway.keys
    found = await keys.holder(key.strip())
    if found.admin and gateway.settings.serves is Serves.TENANTS:
        raise Forbidden("this gateway takes no admin key")
    return found


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
