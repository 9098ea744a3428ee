"""Embedders alone: how many texts a second, one by one and in batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from time import perf_counter, process_time

from memlane.bench.figures import Amount
from memlane.bench.output import Progress
from memlane.bench.texts import fresh_texts
from memlane.config.settings import load_settings
from memlane.tasks.embedders import Embedder, make_embedder

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one embedder.

    Attributes:
        single_ms: how long one text takes.
        batch_per_s: texts a second in batches.
        batch: how many are in a batch.
        cpu_ms: CPU time of our process per text in a batch.
    """

    single_ms: float
    batch_per_s: float
    batch: int
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Embedders:
    """Each by its name; sentence-transformers on torch where somebody has installed it."""

    speeds: Mapping[str, Speed]


def measure(provider: str, amount: Amount, progress: Progress) -> Embedders:
    """Each alone.

    Args:
        provider: the base URL of a provider, without /v1.
        amount: how much is asked.
        progress: told each.
    """
    nobody = {"none": "postgresql://none"}
    told = {"embedder": "openai", "openai_base_url": f"{provider}/v1", "openai_api_key": "bench", "openai_dims": 384}
    settings = {
        "minilm": load_settings(nodes=nobody, embedder="minilm"),
        "provider": load_settings(nodes=nobody, **told),
    }
    found = {}
    for name, one in settings.items():
        found[name] = _speed(make_embedder(one), amount.embedded)
        progress(f"{name}: {found[name].batch_per_s:,.0f} texts/s in batches, {found[name].single_ms} ms for one")
    return Embedders(found)


def _speed(embedder: Embedder, texts: int) -> Speed:
    chosen = list(islice(fresh_texts(1), texts))
    alone = chosen[: max(5, texts // 50)]
    embedder.embed(alone[:2])
    begun = perf_counter()
    for text in alone:
        embedder.embed([text])
    single_ms = 1000 * (perf_counter() - begun) / len(alone)
    begun, cpu = perf_counter(), process_time()
    for start in range(0, texts, _BATCH):
        embedder.embed(chosen[start : start + _BATCH])
    took_s, cpu_s = perf_counter() - begun, process_time() - cpu
    return Speed(round(single_ms, 2), round(texts / took_s, 1), min(_BATCH, texts), round(1000 * cpu_s / texts, 3))
