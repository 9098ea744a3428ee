"""The embedding cache: a text of a tenant is embedded, and paid for, once.

A row lives on the shard of (tenant, hash of the text), so that the same text of two agents meets. A
cache may miss: a shard that does not answer is treated as one that knows nothing.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import structlog

from memlane.errors import ShardMoved, Unavailable
from memlane.storage import queries
from memlane.storage.cluster import Cluster, Shard
from memlane.storage.connections import Row
from memlane.storage.halfvec import HalfVectors, Vector, as_vector
from memlane.storage.nodes import Params

log = structlog.get_logger(__name__)

_SQL = queries.load("embedding_cache")

PATIENCE_S = 1.0
"""How long a node is waited for: its cache may miss, and must not hold up those who work for other nodes."""

_EVENTS = {"find": "cache.miss", "lacking": "cache.miss", "keep": "cache.not_kept"}
"""What is logged where a shard does not answer."""


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
    for number, rows in _answers(cluster, "find", _asked(cluster, model, texts)):
        here = {Text(tenant, bytes(hash_)): Cached(as_vector(row), tokens) for tenant, hash_, row, tokens, _ in rows}
        found.update(here)
        stale = [text for text, row in zip(here, rows, strict=True) if row[-1]]
        for tenant, hashes in _by_tenant(stale).items():
            cluster.later(partial(cluster.on, number, partial(_used, tenant, hashes, model)))
    return found


def missing(cluster: Cluster, model: str, texts: Sequence[Text]) -> list[Text]:
    """Those texts that the cache lacks; where a shard does not answer, nobody knows, and they are left out."""
    rows = _answers(cluster, "lacking", _asked(cluster, model, texts))
    return [Text(tenant, bytes(hash_)) for _, lacking in rows for tenant, hash_ in lacking]


def keep(cluster: Cluster, model: str, embeddings: Mapping[Text, Cached], before: str | None = None) -> None:
    """Keep embeddings for the next time that the same texts come.

    Args:
        cluster: where.
        model: whose they are.
        embeddings: by their texts.
        before: the node on which the caller commits next. There this one does not wait for the disk: that one does so
            for both, and a server that dies in between loses no more than the batch under way.
    """
    asked: dict[int, Params] = {}
    for number, here in _by_shard(cluster, list(embeddings)).items():
        asked[number] = {
            **_named(model, here),
            "embeddings": HalfVectors(np.stack([embeddings[text].vector for text in here])),
            "tokens": [embeddings[text].tokens for text in here],
        }
    for _ in _answers(cluster, "keep", asked, before):
        pass


def drop(cluster: Cluster, tenant: str, hashes: Sequence[bytes], unused_s: float | None = None) -> None:
    """Let go of the embeddings of texts that were forgotten, or of those that were of no use for so many seconds."""
    for number, here in _by_shard(cluster, [Text(tenant, hash_) for hash_ in hashes]).items():
        cluster.on(number, partial(_drop, tenant, [text.hash for text in here], unused_s))


def _answers(
    cluster: Cluster, query: str, asked: Mapping[int, Params], before: str | None = None
) -> Iterator[tuple[int, list[Row]]]:
    """What each shard answers to what it is asked, in one round trip for all of a node; who does not is left out."""
    by_node: defaultdict[str | None, list[int]] = defaultdict(list)
    for number in sorted(asked):  # in one order, so that nobody waits for each other
        by_node[cluster.node_of(number)].append(number)
    for node, numbers in by_node.items():
        try:
            rows = _together(
                cluster,
                query,
                {number: asked[number] for number in numbers},
                hurried=node is not None and node == before,
            )
        except ShardMoved:
            yield from _one_by_one(cluster, query, {number: asked[number] for number in numbers})
        except Unavailable as error:
            log.warning(_EVENTS[query], shards=numbers, why=str(error))
        else:
            yield from zip(numbers, rows, strict=True)


def _together(cluster: Cluster, query: str, asked: Mapping[int, Params], *, hurried: bool) -> list[list[Row]]:
    """What the shards of one node answer, in one transaction."""
    shards = [cluster.shard(number) for number in asked]
    if any(shard.node is not shards[0].node for shard in shards):
        raise ShardMoved("the map has changed meanwhile")
    first = [(_SQL["hurried"].render(), None)] if hurried else []
    statements = [(s.render(_SQL[query]), {**asked[s.number], "epoch": s.epoch}) for s in shards]
    return shards[0].node.run_all([*first, *statements], PATIENCE_S)[len(first) :]


def _one_by_one(cluster: Cluster, query: str, asked: Mapping[int, Params]) -> Iterator[tuple[int, list[Row]]]:
    """What shards answer of which one at least has moved."""
    for number, params in asked.items():
        try:
            yield number, cluster.on(number, partial(_ask_one, query, params))
        except Unavailable as error:
            log.warning(_EVENTS[query], shards=[number], why=str(error))


def _ask_one(query: str, params: Params, shard: Shard) -> list[Row]:
    return shard.write(_SQL[query], params, PATIENCE_S)


def _asked(cluster: Cluster, model: str, texts: Sequence[Text]) -> dict[int, Params]:
    return {number: _named(model, here) for number, here in _by_shard(cluster, texts).items()}


def _named(model: str, texts: Sequence[Text]) -> Params:
    """Texts as parameters."""
    return {"tenants": [text.tenant for text in texts], "hashes": [text.hash for text in texts], "model": model}


def _used(tenant: str, hashes: list[bytes], model: str, shard: Shard) -> None:
    """They are of use still: noted once a day at most, and off the way of whoever uses them."""
    shard.write(_SQL["used"], {"tenant": tenant, "hashes": hashes, "model": model}, PATIENCE_S)


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
