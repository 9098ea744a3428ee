"""Tenants and their API keys: a key belongs to one tenant, or is the admin's; kept is only its hash."""

import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass
from hashlib import sha256

from memlane.contract.status import KeyStatus, TenantLimits, TenantStatus
from memlane.errors import FieldError, InvalidInput, NotFound, Unauthorized
from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("control")

_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_KEY = re.compile(r"mlk_([0-9a-f]{12})_[0-9a-f]{48}")

_PATIENCE_S = 1.0
"""How long control is waited for by those who look at it in the background."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a tenant, or the admin, who sees no memory."""

    tenant: str | None

    @property
    def admin(self) -> bool:
        """Whether this is the admin."""
        return self.tenant is None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a key, and for how many seconds it is good; None: until it is revoked."""

    principal: Principal
    left_s: float | None


@dataclass(frozen=True, slots=True)
class Rotated:
    """The key that takes another's place, and for how many seconds the other one is good beside it."""

    key: str
    left_s: float


def check_tenant(name: object) -> str:
    """A tenant's name: small letters, digits, - and _, at most 63 of them, a letter or digit first.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(name, str) or not _TENANT.fullmatch(name):
        raise InvalidInput(
            [FieldError("tenant", "must be 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit")]
        )
    return name


def create_tenant(control: Node, name: str) -> bool:
    """Add a tenant; False if it was there."""
    return bool(control.run(_SQL["create_tenant"].render(), {"tenant": check_tenant(name)}))


def tenants(control: Node) -> list[TenantStatus]:
    """All tenants by name."""
    return [
        TenantStatus(tenant, created_at, TenantLimits(*own))
        for tenant, created_at, *own in control.run(_SQL["tenants"].render())
    ]


def limits(control: Node) -> dict[str, TenantLimits]:
    """The limits of those tenants for which some were set."""
    return {tenant: TenantLimits(*own) for tenant, *own in control.run(_SQL["limits"].render(), None, _PATIENCE_S)}


def set_limits(control: Node, tenant: str, wanted: TenantLimits, given: Collection[str]) -> TenantLimits:
    """Set limits of a tenant; all that are set then.

    Args:
        control: where they are kept.
        tenant: whose.
        wanted: their values; None takes one back.
        given: the names of those that are set, or taken back; the others stay.

    Raises:
        NotFound: there is no such tenant.
    """
    rows = control.run(_SQL["set_limits"].render(), {"tenant": tenant, "given": list(given), **asdict(wanted)})
    if not rows:
        raise NotFound(f"there is no tenant {tenant}")
    return TenantLimits(*rows[0])


def new_key() -> str:
    """A new key: a prefix to find it by, and 24 random bytes."""
    return f"mlk_{secrets.token_hex(6)}_{secrets.token_hex(24)}"


def create_key(
    control: Node, tenant: str | None, label: str = "", key: str | None = None, lives_s: float | None = None
) -> str:
    """Add a key; the key itself, which is not kept.

    Args:
        control: where keys are kept.
        tenant: whose it is; None: the admin's.
        label: what it is for.
        key: one that was made before.
        lives_s: after how many seconds it ends, and each one that takes its place; None: it does not.

    Raises:
        NotFound: there is no such tenant.
    """
    key = key or new_key()
    if tenant is not None and tenant not in {known.tenant for known in tenants(control)}:
        raise NotFound(f"there is no tenant {tenant}")
    params = {"prefix": prefix_of(key), "key_hash": hashed(key), "tenant": tenant, "label": label}
    control.run(_SQL["create_key"].render(), {**params, "lives_s": lives_s})
    return key


def create_first_admin_key(control: Node, key: str) -> bool:
    """Add a key for the admin; False if there is an admin key already, be it a revoked one."""
    params = {"prefix": prefix_of(key), "key_hash": hashed(key), "label": "the first"}
    return bool(control.run(_SQL["create_first_admin_key"].render(), params))


def rotate_key(control: Node, prefix: str, grace_s: float) -> Rotated:
    """Make a key that takes another's place, with its tenant and label.

    Args:
        control: where keys are kept.
        prefix: of the key that is replaced.
        grace_s: for how many seconds it goes on being good, unless it ends before; 0 ends it at once.

    Raises:
        NotFound: there is none with this prefix, or it has ended.
    """
    key = new_key()
    params = {"prefix": prefix, "grace_s": float(grace_s), "new_prefix": prefix_of(key), "key_hash": hashed(key)}
    rows = control.run(_SQL["rotate_key"].render(), params)
    if not rows:
        raise _not_good(control, prefix)
    return Rotated(key, rows[0][0])


def keys(control: Node, tenant: str | None = None) -> list[KeyStatus]:
    """All keys, or a tenant's, oldest first."""
    return [KeyStatus(*row) for row in control.run(_SQL["keys"].render(), {"tenant": tenant})]


def revoke_key(control: Node, prefix: str) -> None:
    """Make a key worthless.

    Raises:
        NotFound: there is none with this prefix, or it was revoked before.
    """
    if not control.run(_SQL["revoke_key"].render(), {"prefix": prefix}):
        raise _not_good(control, prefix)


def _not_good(control: Node, prefix: str) -> NotFound:
    """Why nothing can be done with a key: it is unknown, or has ended."""
    known = control.run(_SQL["known_key"].render(), {"prefix": prefix})
    return NotFound(f"key {prefix} was revoked, or has expired" if known else f"there is no key with prefix {prefix}")


def note_use(control: Node, prefixes: Collection[str]) -> None:
    """Note that keys were used just now; what was noted within the last minute stays as it is."""
    control.run(_SQL["note_use"].render(), {"prefixes": list(prefixes)})


def authenticate(control: Node, key: str) -> Holder:
    """Who holds this key.

    Raises:
        Unauthorized: nobody.
    """
    rows = control.run(_SQL["find_key"].render(), {"prefix": prefix_of(key)})
    if not rows or not hmac.compare_digest(bytes(rows[0][0]), hashed(key)):
        raise Unauthorized("the API key is unknown, was revoked or has expired")
    _, tenant, left_s = rows[0]
    return Holder(Principal(tenant), left_s)


def prefix_of(key: str) -> str:
    """The part of a key that it is found by.

    Raises:
        Unauthorized: it is no key.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise Unauthorized("this is not an API key")
    return match[1]


def hashed(key: str) -> bytes:
    """What is kept of a key. A plain hash does: a key is 192 random bits, which no dictionary holds."""
    return sha256(key.encode()).digest()
