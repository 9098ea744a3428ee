"""Embedders alone: how many texts a second, one by one and in batches."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time

from memlane.bench.figures import Amount
from memlane.bench.output import Progress
from memlane.bench.texts import fresh_texts
from memlane.config.settings import load_settings
from memlane.tasks.embedders import Embedder, make_embedder
from memlane.tasks.embedders.minilm import find_weights

_BATCH = 256
_TORCH_BATCH = 32


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


def measure(provider: str, amount: Amount, torch: Path | None, progress: Progress) -> Embedders:
    """Each alone.

    Args:
        provider: the base URL of a provider, without /v1.
        amount: how much is asked.
        torch: a Python that has sentence-transformers, where somebody has installed it: with torch it is gigabytes.
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
    if torch is not None:
        found["torch"] = _by_torch(torch, amount.embedded)
        progress(f"torch: {found['torch'].batch_per_s:,.0f} texts/s in batches")
    return Embedders(found)


def _by_torch(python: Path, texts: int) -> Speed:
    """The same texts by sentence-transformers, in a process of its own."""
    chosen = list(islice(fresh_texts(1), texts))
    weights = find_weights(load_settings(nodes={"none": "postgresql://none"}))
    task = json.dumps({"texts": chosen, "alone": _alone(texts)})
    command = [str(python), "-W", "ignore", str(Path(__file__).with_name("torch_alone.py")), str(weights)]
    done = subprocess.run(command, input=task, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    return Speed(round(found["single_ms"], 2), round(found["batch_per_s"], 1), _TORCH_BATCH, round(found["cpu_ms"], 3))


def _alone(texts: int) -> int:
    """How many are embedded one by one."""
    return max(5, texts // 50)


def _speed(embedder: Embedder, texts: int) -> Speed:
    chosen = list(islice(fresh_texts(1), texts))
    alone = chosen[: _alone(texts)]
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
