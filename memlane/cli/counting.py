"""How tokens are counted without asking a provider: by a model's own tokenizer where it is here, else by a bound."""

from collections.abc import Sequence
from dataclasses import dataclass

from memlane.cli.simulation import Count
from memlane.contract.tokens import bound
from memlane.errors import MemlaneError


@dataclass(frozen=True, slots=True)
class Counting:
    """A way to count, and what it is."""

    count: Count
    how: str


def counting(model: str) -> Counting:
    """The best way that there is here for a model, as the price list calls it."""
    try:
        from memlane.config.settings import load_settings  # only with memlane[server]
        from memlane.tasks.embedders import called, make_embedder
    except ImportError:
        return _BOUND
    try:
        settings = load_settings()
        local = {"all-minilm-l6-v2": "minilm", "hash": "hash"}.get(model)
        if local is None and settings.openai_tokenizer is None:
            return _BOUND
        chosen = load_settings(embedder=local, profile="test") if local else load_settings(embedder="openai")
        if local is None and called(chosen) != model:
            return _BOUND
        return Counting(make_embedder(chosen).count, "as the model's own tokenizer counts them")
    except MemlaneError:
        return _BOUND


def _bounds(texts: Sequence[str]) -> list[int]:
    return [bound(text) for text in texts]


_BOUND = Counting(_bounds, "at most, one for each byte of UTF-8 and four beside; English has about four bytes to one")
