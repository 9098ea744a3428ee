"""Tenants and their API keys: a key belongs to one tenant, or is the admin's; kept is only its hash."""

import hmac
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256

from memlane.contract.status import KeyStatus, TenantStatus
from memlane.errors import FieldError, InvalidInput, NotFound, Unauthorized
from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("control")

_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_KEY = re.compile(r"mlk_([0-9a-f]{12})_[0-9a-f]{48}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a tenant, or the admin, who sees no memory."""

    tenant: str | None

    @property
    def admin(self) -> bool:
        """Whether this is the admin."""
        return self.tenant is None


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
    return [TenantStatus(*row) for row in control.run(_SQL["tenants"].render())]


def new_key() -> str:
    """A new key: a prefix to find it by, and 24 random bytes."""
    return f"mlk_{secrets.token_hex(6)}_{secrets.token_hex(24)}"


def create_key(control: Node, tenant: str | None, label: str = "", key: str | None = None) -> str:
    """Add a key for a tenant, or for the admin if None; the key itself, which is not kept.

    Raises:
        NotFound: there is no such tenant.
    """
    key = key or new_key()
    if tenant is not None and tenant not in {known.tenant for known in tenants(control)}:
        raise NotFound(f"there is no tenant {tenant}")
    params = {"prefix": prefix_of(key), "key_hash": _hash(key), "tenant": tenant, "label": label}
    control.run(_SQL["create_key"].render(), params)
    return key


def create_first_admin_key(control: Node, key: str) -> bool:
    """Add a key for the admin; False if there is an admin key already, be it a revoked one."""
    params = {"prefix": prefix_of(key), "key_hash": _hash(key), "label": "the first"}
    return bool(control.run(_SQL["create_first_admin_key"].render(), params))


def keys(control: Node, tenant: str | None = None) -> list[KeyStatus]:
    """All keys, or a tenant's, oldest first."""
    return [KeyStatus(*row) for row in control.run(_SQL["keys"].render(), {"tenant": tenant})]


def revoke_key(control: Node, prefix: str) -> None:
    """Make a key worthless.

    Raises:
        NotFound: there is none with this prefix, or it was revoked before.
    """
    if not control.run(_SQL["revoke_key"].render(), {"prefix": prefix}):
        raise NotFound(f"there is no key with prefix {prefix} that could be revoked")


def authenticate(control: Node, key: str) -> Principal:
    """Who holds this key.

    Raises:
        Unauthorized: nobody.
    """
    rows = control.run(_SQL["find_key"].render(), {"prefix": prefix_of(key)})
    if not rows or not hmac.compare_digest(bytes(rows[0][0]), _hash(key)):
        raise Unauthorized("the API key is unknown or was revoked")
    return Principal(rows[0][1])


def prefix_of(key: str) -> str:
    """The part of a key that it is found by.

    Raises:
        Unauthorized: it is no key.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise Unauthorized("this is not an API key")
    return match[1]


def _hash(key: str) -> bytes:
    """A plain hash does: a key is 192 random bits, which no dictionary holds."""
    return sha256(key.encode()).digest()
