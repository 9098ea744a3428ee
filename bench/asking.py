"""Asking the provider while an operation is profiled: noted as a step, and paid for no more than once."""

from collections.abc import Sequence
from time import perf_counter

from memlane.config.settings import EmbedderName
from memlane.storage.traced import Trace
from memlane.tasks.lane import Lane
from memlane.tasks.provider import Embedded, Provider, Wanted

PROVIDER = "provider asked"


class Asked(Provider):
    """A provider whose requests are noted as a step.

    Args:
        provider: who is asked.
        trace: where it is noted.
        once: whether the first answer serves for all: each costs money.
    """

    def __init__(self, provider: Provider, trace: Trace, *, once: bool) -> None:
        self._provider = provider
        self._trace = trace
        self._once = once
        self._answer: Embedded | None = None

    def count(self, texts: Sequence[str]) -> list[int]:
        """As the provider's own."""
        return self._provider.count(texts)

    def embed(self, wanted: Sequence[Wanted], patience_s: float) -> Embedded:
        """As the provider's own."""
        if self._answer is not None:
            return self._answer
        with self._trace.spending(PROVIDER):
            answer = self._provider.embed(wanted, patience_s)
        if self._once:
            self._answer = answer
        return answer


def costs_money(lane: Lane) -> bool:
    """Whether requests to the provider may be charged for."""
    return lane.settings.embedder is EmbedderName.OPENAI


def loaded(lane: Lane, trace: Trace, paying: Lane) -> float:
    """Have a lane's requests to its provider noted; how long it took to load a local model, in ms.

    Args:
        lane: where the operation runs.
        trace: where requests are noted.
        paying: by whose connections what is charged is told to control, whatever becomes of the operation.
    """
    begun = perf_counter()
    provider = (paying if costs_money(lane) else lane).provider
    load_ms = (perf_counter() - begun) * 1000
    lane.__dict__["provider"] = Asked(provider, trace, once=costs_money(lane))
    return load_ms
