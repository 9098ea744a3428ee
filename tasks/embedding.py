"""Embedding a batch of texts: the cache first, then one request for the rest, which the cache then keeps."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import structlog

from memlane.contract import Embedding
from memlane.errors import BudgetRefused, ProviderRefused, RateRefused, Unavailable
from memlane.storage import embedding_cache, memories
from memlane.storage.cluster import Shard
from memlane.storage.embedding_cache import Cached, Text
from memlane.storage.halfvec import Vector
from memlane.storage.hashing import text_hash
from memlane.storage.jobs import Claim, Delay, Job
from memlane.storage.spending import Group
from memlane.tasks.lane import Lane
from memlane.tasks.provider import Wanted

log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)

_LONGEST_S = 60.0
"""The longest pause before a provider that was down is asked again."""

_MOST_PAYERS = 4
"""How many groups are asked to pay for a text, one after the other."""

_SELDOM_S = 3600.0
"""The longest pause before a text that a provider refused is tried again."""


@dataclass(frozen=True, slots=True)
class Vectors(Generic[K]):
    """Vectors by the caller's key, and why some are missing."""

    found: Mapping[K, Vector]
    refusals: Mapping[K, ProviderRefused]

    @property
    def delays(self) -> dict[K, Delay]:
        """When those that are missing are tried again, and why they are."""
        return {key: _delay(refusal) for key, refusal in self.refusals.items()}

    @property
    def in_vain(self) -> bool:
        """Whether nobody else should try either: a provider refuses all, a budget only its own."""
        others = [refusal for refusal in self.refusals.values() if not isinstance(refusal, BudgetRefused)]
        return bool(others) and not self.found


def wanted(lane: Lane, shard: Shard, texts: Mapping[Job, str]) -> dict[int, Wanted]:
    """The texts of jobs with those who pay for them, by the job's number."""
    names = lane.numbers.names(shard, {job.agent for job in texts if job.agent is not None})
    return {
        job.number: Wanted(Group(job.tenant, names.get(job.agent, "") if job.agent is not None else ""), text)
        for job, text in texts.items()
    }


def embed(
    lane: Lane,
    texts: Mapping[K, Wanted],
    patience_s: float,
    names: Mapping[K, Text] | None = None,
    before: Shard | None = None,
) -> Vectors[K]:
    """The vectors of texts by any key; never raises for what the provider does.

    Args:
        lane: this process's.
        texts: what to embed; the same text of the same tenant is embedded once.
        patience_s: how long the provider's limits are waited for.
        names: under which names the cache keeps them; each under its own hash unless given.
        before: where the caller commits right after, if it does.
    """
    named = names or {key: Text(one.group.tenant, text_hash(one.text)) for key, one in texts.items()}
    known = embedding_cache.find(lane.cluster, lane.model.name, list(dict.fromkeys(named.values())))
    hits = sum(text in known for text in named.values())
    lane.measures.cache("embeddings", hits=hits, misses=len(named) - hits)
    fresh: dict[Text, Cached] = {}
    refused: dict[Text, dict[Group, ProviderRefused]] = {}
    paid: dict[Text, K] = {}
    for payers in _payers(texts, {key: text for key, text in named.items() if text not in known}):
        asked = {text: key for text, key in payers.items() if text not in fresh and _only_budgets(refused.get(text))}
        answer = lane.provider.embed([texts[key] for key in asked.values()], patience_s)
        for place, (text, key) in enumerate(asked.items()):
            if place in answer.vectors:
                fresh[text], paid[text] = Cached(answer.vectors[place], answer.tokens[place]), key
            else:
                refused.setdefault(text, {})[texts[key].group] = answer.refusals[place]
    if fresh:
        embedding_cache.keep(lane.cluster, lane.model.name, fresh, before.node.name if before else None)
    every = {**known, **fresh}
    saved = {key: (texts[key].group, every[text]) for key, text in named.items() if text in every}
    _note_saved(lane, {key: one for key, one in saved.items() if paid.get(named[key]) != key})
    return Vectors(
        {key: every[text].vector for key, text in named.items() if text in every},
        {key: _why(refused, text, texts[key].group) for key, text in named.items() if text not in every},
    )


def _payers(texts: Mapping[K, Wanted], named: Mapping[K, Text]) -> Iterator[Mapping[Text, K]]:
    """For each text somebody who pays for it: the first who wants it, then those of other groups, round by round."""
    rounds: list[dict[Text, K]] = [{}]
    groups: dict[Text, set[Group]] = {}
    for key, text in named.items():
        known = groups.setdefault(text, set())
        if texts[key].group in known or len(known) == _MOST_PAYERS:
            continue
        if len(known) == len(rounds):
            rounds.append({})
        rounds[len(known)][text] = key
        known.add(texts[key].group)
    return iter(rounds)


def _only_budgets(refused: Mapping[Group, ProviderRefused] | None) -> bool:
    """Whether nothing but budgets was in the way of a text, so that another group may pay for it."""
    return all(isinstance(why, BudgetRefused) for why in (refused or {}).values())


def _why(refused: Mapping[Text, Mapping[Group, ProviderRefused]], text: Text, group: Group) -> ProviderRefused:
    """Why a group has no vector of a text: its own refusal, or that of who was asked last in its place."""
    whys = refused[text]
    return whys.get(group) or list(whys.values())[-1]


def _note_saved(lane: Lane, saved: Mapping[K, tuple[Group, Cached]]) -> None:
    """Note what needed not be sent: it was known, or came for another of the batch."""
    groups: dict[Group, tuple[int, int]] = {}
    for group, cached in saved.values():
        texts, tokens = groups.get(group, (0, 0))
        groups[group] = texts + 1, tokens + (cached.tokens or 0)
    lane.purse.saved(groups)


def _delay(refusal: ProviderRefused) -> Delay:
    """When what was refused is tried again; what the provider does not like of a text seldom changes."""
    if isinstance(refusal, BudgetRefused | RateRefused):
        return Delay(refusal.retry_after_s, str(refusal), refusal.retry_after_s)
    return Delay(refusal.retry_after_s, str(refusal), _SELDOM_S if refusal.about_input else _LONGEST_S)


def keep_given(lane: Lane, tenant: str, given: Mapping[bytes, Embedding]) -> None:
    """Put vectors that a caller brought along into the tenant's cache, so that nobody has to be asked for them.

    Args:
        lane: this process's.
        tenant: whose texts they are.
        given: by the hash of the text; those of another model or length are left aside.
    """
    fitting = {Text(tenant, hash_): Cached(_unit(one.vector)) for hash_, one in given.items() if fits(lane, one)}
    if fitting:
        embedding_cache.keep(lane.cluster, lane.model.name, fitting)


def fits(lane: Lane, given: Embedding) -> bool:
    """Whether a vector that a caller brought along is one of the current model's."""
    return given.model == lane.model.name and len(given.vector) == lane.model.dims


def _unit(vector: Sequence[float]) -> Vector:
    """A vector of length 1; scaled first, so that its squares neither vanish nor overflow."""
    wide = np.asarray(vector, np.float64)
    wide = wide / np.abs(wide).max()
    return np.asarray(wide / np.linalg.norm(wide), np.float32)


def let_go(lane: Lane, shard: Shard, claim: Claim, texts: Mapping[int, Wanted]) -> None:
    """Drop from the cache the texts of a claim that were forgotten while they were worked on.

    Args:
        lane: this process's.
        shard: where the claim was.
        claim: it is finished.
        texts: by the memory's number.
    """
    stored = memories.texts(shard, claim)
    for number, one in texts.items():
        if number not in stored:
            drop(lane, one.group.tenant, [text_hash(one.text)])


def drop(lane: Lane, tenant: str, hashes: Sequence[bytes], unused_s: float | None = None) -> None:
    """Drop a tenant's texts from the cache, or those of no use for so many seconds; what cannot be reached stays."""
    try:
        embedding_cache.drop(lane.cluster, tenant, hashes, unused_s)
        lane.measures.cache("embeddings", dropped=len(hashes))
    except Unavailable as error:
        log.warning("cache.not_dropped", tenant=tenant, why=str(error))
