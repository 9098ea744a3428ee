"""The embedding cache: a text of a tenant is embedded, and paid for, once.

A row lives on the shard of (tenant, hash of the text), so that the same text of two agents meets. A
cache may miss: a shard that does not answer is treated as one that knows nothing.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import structlog

from memlane.errors import Unavailable
from memlane.storage import queries
from memlane.storage.cluster import Cluster, Shard
from memlane.storage.connections import Row
from memlane.storage.halfvec import HalfVectors, Vector, as_vector

log = structlog.get_logger(__name__)

_SQL = queries.load("embedding_cache")

PATIENCE_S = 1.0
"""How long a node is waited for: its cache may miss, and must not hold up those who work for other nodes."""


@dataclass(frozen=True, slots=True)
class Cached:
    """The embedding of a text, and how many tokens were charged for it; None: nobody knows."""

    vector: Vector
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """Whose text it is, and the SHA-256 of it."""

    tenant: str
    hash: bytes


def find(cluster: Cluster, model: str, texts: Sequence[Text]) -> dict[Text, Cached]:
    """The embeddings of those texts that were embedded before."""
    found: dict[Text, Cached] = {}
    for number, here in _by_shard(cluster, texts).items():
        for tenant, hashes in _by_tenant(here).items():
            try:
                rows = cluster.on(number, partial(_find, tenant, hashes, model))
            except Unavailable as error:
                log.warning("cache.miss", shard=number, why=str(error))
                continue
            found.update({Text(tenant, bytes(hash_)): Cached(as_vector(row), tokens) for hash_, row, tokens, _ in rows})
            if stale := [bytes(hash_) for hash_, _, _, is_stale in rows if is_stale]:
                cluster.later(partial(cluster.on, number, partial(_used, tenant, stale, model)))
    return found


def missing(cluster: Cluster, model: str, texts: Sequence[Text]) -> list[Text]:
    """Those texts that the cache lacks; where a shard does not answer, nobody knows, and they are left out."""
    lacking: list[Text] = []
    for number, here in _by_shard(cluster, texts).items():
        for tenant, hashes in _by_tenant(here).items():
            try:
                rows = cluster.on(number, partial(_find, tenant, hashes, model))
            except Unavailable as error:
                log.warning("cache.miss", shard=number, why=str(error))
                continue
            known = {bytes(row[0]) for row in rows}
            lacking += [Text(tenant, hash_) for hash_ in hashes if hash_ not in known]
    return lacking


def keep(cluster: Cluster, model: str, embeddings: Mapping[Text, Cached]) -> None:
    """Keep embeddings for the next time that the same texts come."""
    for number, here in _by_shard(cluster, list(embeddings)).items():
        try:
            cluster.on(number, partial(_keep, model, {text: embeddings[text] for text in here}))
        except Unavailable as error:
            log.warning("cache.not_kept", shard=number, why=str(error))


def drop(cluster: Cluster, tenant: str, hashes: Sequence[bytes], unused_s: float | None = None) -> None:
    """Let go of the embeddings of texts that were forgotten, or of those that were of no use for so many seconds."""
    for number, here in _by_shard(cluster, [Text(tenant, hash_) for hash_ in hashes]).items():
        cluster.on(number, partial(_drop, tenant, [text.hash for text in here], unused_s))


def _find(tenant: str, hashes: list[bytes], model: str, shard: Shard) -> list[Row]:
    return shard.run(_SQL["find"], {"tenant": tenant, "hashes": hashes, "model": model}, PATIENCE_S)


def _used(tenant: str, hashes: list[bytes], model: str, shard: Shard) -> None:
    """They are of use still: noted once a day at most, and off the way of whoever uses them."""
    shard.write(_SQL["used"], {"tenant": tenant, "hashes": hashes, "model": model}, PATIENCE_S)


def _keep(model: str, embeddings: Mapping[Text, Cached], shard: Shard) -> None:
    params = {
        "tenants": [text.tenant for text in embeddings],
        "hashes": [text.hash for text in embeddings],
        "embeddings": HalfVectors(np.stack([one.vector for one in embeddings.values()])),
        "tokens": [one.tokens for one in embeddings.values()],
        "model": model,
    }
    shard.write(_SQL["keep"], params, PATIENCE_S)


def _drop(tenant: str, hashes: list[bytes], unused_s: float | None, shard: Shard) -> None:
    shard.run(_SQL["drop"], {"tenant": tenant, "hashes": hashes, "unused_s": unused_s})


def rows(shard: Shard) -> int:
    """About how many embeddings a shard keeps, as of when the table was last analyzed."""
    return int(shard.run(_SQL["rows"], quoted_shard=f"'{shard.schema}'")[0][0])


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
