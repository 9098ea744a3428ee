"""The admin's client: tenants, keys, and the state of the whole, over HTTP with the admin key."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

from memlane.client.calls import Call
from memlane.client.synchronous import Client
from memlane.contract import Ledger, wire
from memlane.contract.parked import Changed, ParkedJobs, Strays
from memlane.contract.status import KeyStatus, NewKey, NodeStatus, RotatedKey, ShardStatus, Status, TenantStatus

T = TypeVar("T")


class Admin:
    """What an operator asks of a gateway.

    Args:
        url: of the gateway.
        api_key: the admin key.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self._client = Client(url, api_key, retries=2)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def status(self) -> Status:
        """Nodes, shards, jobs, strays, duties and broker, each as it is now."""
        return self._get("/status", Status)

    def ledger(self) -> Ledger:
        """What became of everything that was handed over, by all tenants."""
        return self._get("/ledger", Ledger)

    def nodes(self) -> Sequence[NodeStatus]:
        """The servers of each node: their roles, and how far the standbys are behind."""
        return self._get("/nodes", list[NodeStatus])

    def shards(self) -> Sequence[ShardStatus]:
        """Where each shard lives, and what it holds."""
        return self._get("/shards", list[ShardStatus])

    def tenants(self) -> Sequence[TenantStatus]:
        """All tenants."""
        return self._get("/tenants", list[TenantStatus])

    def create_tenant(self, tenant: str) -> bool:
        """Add a tenant; False if it was there.

        Raises:
            InvalidInput: it is not a good name.
        """
        return bool(json.loads(self._post("/tenants", {"tenant": tenant}))["created"])

    def keys(self, tenant: str | None = None) -> Sequence[KeyStatus]:
        """All keys, or a tenant's, without their secrets."""
        params = {"tenant": tenant} if tenant else {}
        read = Call("GET", "/v1/admin/keys", lambda data: wire.load(list[KeyStatus], data), params=params)
        return self._client.send(read)

    def create_key(self, tenant: str | None, label: str = "", lives_s: float | None = None) -> str:
        """Make a key for a tenant, or for the admin without one; it is shown this once.

        Args:
            tenant: whose.
            label: what it is for.
            lives_s: after how many seconds it ends; it does not unless given.

        Raises:
            NotFound: there is no such tenant.
        """
        return wire.load(NewKey, self._post("/keys", {"tenant": tenant, "label": label, "lives_s": lives_s})).key

    def rotate_key(self, prefix: str, grace_s: float = 86_400.0) -> RotatedKey:
        """Make a key that takes another's place, for the same tenant; it is shown this once.

        Args:
            prefix: of the key that is replaced.
            grace_s: for how many seconds that goes on being good; 0 ends it at once.

        Raises:
            NotFound: there is none with this prefix, or it has ended.
        """
        return wire.load(RotatedKey, self._post(f"/keys/{quote(prefix, safe='')}/rotate", {"grace_s": grace_s}))

    def revoke_key(self, prefix: str) -> None:
        """Make a key worthless.

        Raises:
            NotFound: there is none with this prefix, or it was revoked before.
        """
        self._client.send(Call("DELETE", f"/v1/admin/keys/{quote(prefix, safe='')}", lambda data: data))

    def embed_missing(self) -> int:
        """Ask for the vectors that memories of any tenant lack; how many jobs that made."""
        return int(json.loads(self._post("/embeddings", {}))["jobs"])

    def parked_page(
        self,
        *,
        tenant: str | None = None,
        kind: str | None = None,
        shard: int | None = None,
        id: UUID | None = None,
        job: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ParkedJobs:
        """One page of the jobs that were set aside, without what they carry.

        Args:
            tenant: whose; all tenants' unless given.
            kind: remember, embed, text_embed, forget or optimize.
            shard: where.
            id: of the memory that they are about.
            job: one job's name.
            limit: how many at most, up to 1,000.
            cursor: `next` of the page before.
        """
        asked = {"tenant": tenant, "kind": kind, "shard": shard, "id": id, "job": job, "limit": limit, "cursor": cursor}
        return self._get("/jobs/parked", ParkedJobs, asked)

    def retry_parked(self, jobs: Sequence[str]) -> int:
        """Try jobs that were set aside again, by their names, up to 1,000; how many were set aside."""
        return wire.load(Changed, self._post("/jobs/parked/retry", {"jobs": list(jobs)})).changed

    def drop_parked(self, jobs: Sequence[str]) -> int:
        """Give jobs that were set aside up, by their names, up to 1,000; how many were.

        Those that forget something stay. A memory that was not stored is forgotten for good; one that is stays,
        without a vector.
        """
        return wire.load(Changed, self._post("/jobs/parked/drop", {"jobs": list(jobs)})).changed

    def strays_page(
        self,
        *,
        tenant: str | None = None,
        task: str | None = None,
        shard: int | None = None,
        id: UUID | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Strays:
        """One page of producers' messages that could not be taken in, without what they say.

        Args:
            tenant: whose; all tenants' unless given.
            task: the producer's task.
            shard: where they are kept.
            id: one stray's.
            limit: how many at most, up to 1,000.
            cursor: `next` of the page before.
        """
        asked = {"tenant": tenant, "task": task, "shard": shard, "id": id, "limit": limit, "cursor": cursor}
        return self._get("/strays", Strays, asked)

    def retry_strays(self, ids: Sequence[UUID]) -> int:
        """Let strays be delivered again by the next sweep, up to 1,000; how many were there.

        What is still wrong is kept again, under another id.
        """
        return wire.load(Changed, self._post("/strays/retry", {"strays": list(map(str, ids))})).changed

    def drop_strays(self, ids: Sequence[UUID]) -> int:
        """Give strays up, up to 1,000; how many were there. Those that wait for their shard stay."""
        return wire.load(Changed, self._post("/strays/drop", {"strays": list(map(str, ids))})).changed

    def _get(self, path: str, kind: type[T], asked: Mapping[str, Any] | None = None) -> T:
        params = {name: str(value) for name, value in (asked or {}).items() if value is not None}
        return self._client.send(Call("GET", f"/v1/admin{path}", lambda data: wire.load(kind, data), params=params))

    def _post(self, path: str, body: dict[str, Any]) -> bytes:
        return self._client.send(Call("POST", f"/v1/admin{path}", lambda data: data, json.dumps(body).encode()))
