"""Embedding a batch of texts: the cache first, then one request for the rest, which the cache then keeps."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from memlane.errors import ProviderRefused
from memlane.storage import embedding_cache
from memlane.storage.embedding_cache import Text
from memlane.storage.halfvec import Vector
from memlane.storage.hashing import text_hash
from memlane.tasks.lane import Lane

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Vectors(Generic[K]):
    """Vectors by the caller's key, and why some are missing."""

    found: Mapping[K, Vector]
    refusal: ProviderRefused | None


def embed(lane: Lane, texts: Mapping[K, tuple[str, str]], *, keep: bool = True) -> Vectors[K]:
    """The vectors of texts, given as tenant and text by any key; never raises for what the provider does.

    Args:
        lane: this process's.
        texts: what to embed; the same text of the same tenant is embedded once.
        keep: whether the cache keeps what is new.
    """
    named = {key: Text(tenant, text_hash(text)) for key, (tenant, text) in texts.items()}
    known = embedding_cache.find(lane.cluster, lane.model.name, list(dict.fromkeys(named.values())))
    missing = {named[key]: text for key, (_, text) in texts.items() if named[key] not in known}
    answer = lane.provider.embed(list(missing.values()))
    fresh = {text: answer.vectors[place] for place, text in enumerate(missing) if place in answer.vectors}
    if keep and fresh:
        embedding_cache.keep(lane.cluster, lane.model.name, fresh)
    every = {**known, **fresh}
    return Vectors({key: every[text] for key, text in named.items() if text in every}, answer.refusal)
