"""The provider: the embedder, the patience that it asks for, its turns, and what it may cost."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

import structlog

from memlane.errors import ProviderRefused, RateRefused
from memlane.storage.halfvec import Vector
from memlane.storage.spending import Call, Group
from memlane.tasks.embedders import Embedder, Embedding
from memlane.tasks.hooks import NO_HOOKS, Hooks, Operation
from memlane.tasks.pace import Pace, Turn
from memlane.tasks.spending import Ask, Loan, Purse

log = structlog.get_logger(__name__)

_BAD_IN_A_ROW = 3
"""So many single texts are refused before we believe that the provider refuses all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A text to be embedded, and who pays for it."""

    group: Group
    text: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """What came of a batch of texts, by place: vectors and the tokens that they cost, or why there is none."""

    vectors: dict[int, Vector] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    refusals: dict[int, ProviderRefused] = field(default_factory=dict)


class Provider:
    """Asks the embedder as seldom as it can, within limits and budgets; after a refusal not before its time."""

    def __init__(self, embedder: Embedder, pace: Pace, purse: Purse, hooks: Hooks = NO_HOOKS) -> None:
        self._embedder = embedder
        self._hooks = hooks
        self._pace = pace
        self._purse = purse
        self._refusal: tuple[float, ProviderRefused] | None = None
        self._lock = Lock()

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text is charged for at most."""
        return self._embedder.count(texts)

    def embed(self, wanted: Sequence[Wanted], patience_s: float) -> Embedded:
        """Embed what can be embedded; never raises for what the provider does.

        Args:
            wanted: the texts.
            patience_s: how long each request waits for its turn.
        """
        outcome = Embedded()
        counts = self._embedder.count([one.text for one in wanted]) if wanted else []
        asks = {place: Ask(one.group, count) for place, (one, count) in enumerate(zip(wanted, counts, strict=True))}
        texts = [one.text for one in wanted]
        for places in requests(texts, self._embedder.most_texts, self._embedder.most_chars):
            refusal = self._ask(texts, {place: asks[place] for place in places}, patience_s, outcome)
            if refusal is not None and refusal.about_input and len(places) > 1:
                self._without_the_bad_ones(texts, {p: asks[p] for p in places}, patience_s, outcome)
        return outcome

    def _ask(
        self, texts: Sequence[str], asks: Mapping[int, Ask], patience_s: float, outcome: Embedded
    ) -> ProviderRefused | None:
        """Make one request for some places, and note what came of it; the provider's refusal, if it was one."""
        if refusal := self._still_refused():
            outcome.refusals.update(dict.fromkeys(asks, refusal))
            return None
        loan = self._purse.lend(asks)
        outcome.refusals.update(loan.refused)
        if not loan.granted:
            return None
        try:
            turn = self._pace.turn(sum(ask.tokens for ask in loan.granted.values()), patience_s)
        except ProviderRefused as refusal:
            self._purse.settle(loan, {})
            outcome.refusals.update(dict.fromkeys(loan.granted, refusal))
            return None
        begun = monotonic()
        try:
            with self._hooks.around(self._operation(loan)):
                answer = self._embedder.embed([texts[place] for place in loan.granted])
        except ProviderRefused as refusal:
            self._failed(turn, loan, refusal)
            outcome.refusals.update(dict.fromkeys(loan.granted, refusal))
            return refusal
        except BaseException:
            turn.used(None)  # the reservation becomes a charge: what it came to, nobody knows
            raise
        shares = self._succeeded(turn, loan, answer, monotonic() - begun)
        for row, place in zip(answer.vectors, loan.granted, strict=True):
            outcome.vectors[place] = row
            outcome.tokens[place] = shares[place]
            outcome.refusals.pop(place, None)
        return None

    def _operation(self, loan: Loan) -> Operation:
        return Operation("embed", items=len(loan.granted), attributes={"model": self._embedder.model.name})

    def _succeeded(self, turn: Turn, loan: Loan, answer: Embedding, took_s: float) -> dict[int, int]:
        """Tell what a request used; the tokens by place."""
        tokens = answer.tokens or None  # a provider that does not say: what was reserved
        turn.used(tokens)
        shares = loan.shares(tokens)
        used = loan.used(shares, answer.requests, answer.requests - 1)
        if tokens is not None and tokens > sum(ask.tokens for ask in loan.granted.values()):
            log.warning("provider.counts_more", charged=tokens)
        self._purse.settle(loan, used, Call(len(loan.granted), took_s))
        return shares

    def _failed(self, turn: Turn, loan: Loan, refusal: ProviderRefused) -> None:
        """Tell that a request brought nothing, and wait if all others would bring nothing as well."""
        if isinstance(refusal, RateRefused):
            log.warning("provider.rate_refused", why=str(refusal), retry_after_s=refusal.retry_after_s)
            turn.refused(refusal.retry_after_s)
        else:
            turn.used(refusal.tokens)
            if not refusal.about_input:
                self._wait(refusal)
        self._purse.settle(loan, loan.used(loan.shares(refusal.tokens), failed=1))

    def _without_the_bad_ones(
        self, texts: Sequence[str], asks: Mapping[int, Ask], patience_s: float, outcome: Embedded
    ) -> None:
        """One text spoils the batch: halve it until the good ones have gone through.

        A provider that refuses one text after the other and takes none means something else.
        """
        bad = 0
        places = random.sample(list(asks), len(asks))  # so that a few bad ones do not stand together
        parts = [places[len(places) // 2 :], places[: len(places) // 2]]
        while parts:
            part = parts.pop()
            refusal = self._ask(texts, {place: asks[place] for place in part}, patience_s, outcome)
            if refusal is None or not refusal.about_input:
                continue
            bad += len(part) == 1
            if bad == _BAD_IN_A_ROW and not any(place in outcome.vectors for place in asks):
                every = ProviderRefused(str(refusal), refusal.retry_after_s)
                outcome.refusals.update(dict.fromkeys(asks, every))
                self._wait(every)
                return
            if len(part) > 1:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]

    def _still_refused(self) -> ProviderRefused | None:
        with self._lock:
            if self._refusal is None or self._refusal[0] <= monotonic():
                self._refusal = None
                return None
            until, refusal = self._refusal
            return ProviderRefused(str(refusal), until - monotonic())

    def _wait(self, refusal: ProviderRefused) -> None:
        log.warning("provider.refused", why=str(refusal), retry_after_s=refusal.retry_after_s)
        with self._lock:
            self._refusal = (monotonic() + refusal.retry_after_s, refusal)


def requests(texts: Sequence[str], most_texts: int, most_chars: int) -> Iterator[list[int]]:
    """The places of texts, cut into requests that keep both limits; one text alone may exceed the second."""
    batch: list[int] = []
    chars = 0
    for place, text in enumerate(texts):
        if batch and (len(batch) == most_texts or chars + len(text) > most_chars):
            yield batch
            batch, chars = [], 0
        batch.append(place)
        chars += len(text)
    if batch:
        yield batch
