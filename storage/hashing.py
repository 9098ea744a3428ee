"""Where an agent or a text belongs: stable hashes that every process and version computes alike."""

from functools import lru_cache
from hashlib import blake2b, sha256

HASH_VERSION = 1
"""Version of `shard_of`; recorded when the cluster is created and never changed in place."""


@lru_cache(maxsize=65_536)
def shard_of(tenant: str, agent: str, shard_count: int) -> int:
    """The shard, from 0, of an agent: BLAKE2b-64 over tenant and agent, modulo the shard count."""
    return _bucket(tenant.encode() + b"\x00" + agent.encode(), shard_count)


def shard_of_text(tenant: str, text_hash: bytes, shard_count: int) -> int:
    """The shard of what belongs to no agent: bare texts and their cached embeddings."""
    return _bucket(tenant.encode() + b"\x00" + text_hash, shard_count)


def _bucket(data: bytes, count: int) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") % count


def text_hash(text: str) -> bytes:
    """SHA-256 of a text as it is searched and embedded: 32 bytes."""
    return sha256(text.encode()).digest()


def propose_node(shard: int, nodes: list[str]) -> str:
    """The node that rendezvous hashing proposes for a shard (Thaler and Ravishankar, 1998)."""
    return max(nodes, key=lambda node: blake2b(f"{node}\x00{shard}".encode(), digest_size=8).digest())
