"""The embedding cache: a text of a tenant is embedded, and paid for, once.

A row lives on the shard of (tenant, hash of the text), so that the same text of two agents meets. A
cache may miss: a shard that does not answer is treated as one that knows nothing.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from memlane.errors import Unavailable
from memlane.storage import queries
from memlane.storage.cluster import Cluster
from memlane.storage.halfvec import HalfVectors, Vector, as_vector

log = structlog.get_logger(__name__)

_SQL = queries.load("embedding_cache")


@dataclass(frozen=True, slots=True)
class Text:
    """Whose text it is, and the SHA-256 of it."""

    tenant: str
    hash: bytes


def find(cluster: Cluster, model: str, texts: Sequence[Text]) -> dict[Text, Vector]:
    """The embeddings of those texts that were embedded before."""
    found: dict[Text, Vector] = {}
    for number, here in _by_shard(cluster, texts).items():
        for tenant, hashes in _by_tenant(here).items():
            params = {"tenant": tenant, "hashes": hashes, "model": model}
            try:
                rows = cluster.on(number, lambda shard, params=params: shard.run(_SQL["find"], params))
            except Unavailable as error:
                log.warning("cache.miss", shard=number, why=str(error))
                continue
            found.update({Text(tenant, bytes(hash_)): as_vector(embedding) for hash_, embedding in rows})
    return found


def keep(cluster: Cluster, model: str, embeddings: Mapping[Text, Vector]) -> None:
    """Keep embeddings for the next time that the same texts come."""
    for number, here in _by_shard(cluster, list(embeddings)).items():
        params = {
            "tenants": [text.tenant for text in here],
            "hashes": [text.hash for text in here],
            "embeddings": HalfVectors(np.stack([embeddings[text] for text in here])),
            "model": model,
        }
        try:
            cluster.on(number, lambda shard, params=params: shard.write(_SQL["keep"], params))
        except Unavailable as error:
            log.warning("cache.not_kept", shard=number, why=str(error))


def drop(cluster: Cluster, tenant: str, hashes: Sequence[bytes]) -> None:
    """Let go of the embeddings of texts that were forgotten."""
    for number, here in _by_shard(cluster, [Text(tenant, hash_) for hash_ in hashes]).items():
        params = {"tenant": tenant, "hashes": [text.hash for text in here]}
        cluster.on(number, lambda shard, params=params: shard.run(_SQL["drop"], params))


def _by_shard(cluster: Cluster, texts: Sequence[Text]) -> dict[int, list[Text]]:
    groups: defaultdict[int, list[Text]] = defaultdict(list)
    for text in texts:
        groups[cluster.shard_of_text(text.tenant, text.hash)].append(text)
    return groups


def _by_tenant(texts: Sequence[Text]) -> dict[str, list[bytes]]:
    groups: defaultdict[str, list[bytes]] = defaultdict(list)
    for text in texts:
        groups[text.tenant].append(text.hash)
    return groups
