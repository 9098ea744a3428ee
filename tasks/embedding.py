"""Embedding a batch of texts: the cache first, then one request for the rest, which the cache then keeps."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import structlog

from memlane.contract import Embedding
from memlane.errors import ProviderRefused, Unavailable
from memlane.storage import embedding_cache, memories
from memlane.storage.cluster import Shard
from memlane.storage.embedding_cache import Text
from memlane.storage.halfvec import Vector
from memlane.storage.hashing import text_hash
from memlane.storage.jobs import Claim
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Vectors(Generic[K]):
    """Vectors by the caller's key, and why some are missing."""

    found: Mapping[K, Vector]
    refusal: ProviderRefused | None


def embed(lane: Lane, texts: Mapping[K, tuple[str, str]]) -> Vectors[K]:
    """The vectors of texts, given as tenant and text by any key; never raises for what the provider does.

    Args:
        lane: this process's.
        texts: what to embed; the same text of the same tenant is embedded once.
    """
    named = {key: Text(tenant, text_hash(text)) for key, (tenant, text) in texts.items()}
    known = embedding_cache.find(lane.cluster, lane.model.name, list(dict.fromkeys(named.values())))
    missing = {named[key]: text for key, (_, text) in texts.items() if named[key] not in known}
    answer = lane.provider.embed(list(missing.values()))
    fresh = {text: answer.vectors[place] for place, text in enumerate(missing) if place in answer.vectors}
    if fresh:
        embedding_cache.keep(lane.cluster, lane.model.name, fresh)
    every = {**known, **fresh}
    return Vectors({key: every[text] for key, text in named.items() if text in every}, answer.refusal)


def keep_given(lane: Lane, tenant: str, given: Mapping[bytes, Embedding]) -> None:
    """Put vectors that a caller brought along into the tenant's cache, so that nobody has to be asked for them.

    Args:
        lane: this process's.
        tenant: whose texts they are.
        given: by the hash of the text; those of another model or length are left aside.
    """
    fitting = {
        Text(tenant, hash_): _unit(one.vector)
        for hash_, one in given.items()
        if one.model == lane.model.name and len(one.vector) == lane.model.dims
    }
    if fitting:
        embedding_cache.keep(lane.cluster, lane.model.name, fitting)


def _unit(vector: Sequence[float]) -> Vector:
    """A vector of length 1; scaled first, so that its squares neither vanish nor overflow."""
    wide = np.asarray(vector, np.float64)
    wide = wide / np.abs(wide).max()
    return np.asarray(wide / np.linalg.norm(wide), np.float32)


def let_go(lane: Lane, shard: Shard, claim: Claim, texts: Mapping[int, tuple[str, str]]) -> None:
    """Drop from the cache the texts of a claim that were forgotten while they were worked on.

    Args:
        lane: this process's.
        shard: where the claim was.
        claim: it is finished.
        texts: tenant and text by the memory's number.
    """
    stored = memories.texts(shard, claim)
    for number, (tenant, text) in texts.items():
        if number not in stored:
            drop(lane, tenant, [text_hash(text)])


def drop(lane: Lane, tenant: str, hashes: Sequence[bytes]) -> None:
    """Drop a tenant's texts from the cache; what cannot be reached stays."""
    try:
        embedding_cache.drop(lane.cluster, tenant, hashes)
    except Unavailable as error:
        log.warning("cache.not_dropped", tenant=tenant, why=str(error))
