"""sentence-transformers on torch, which is what most people embed with, run by a Python that has it.

    PYTHON bench/torch_alone.py WEIGHTS < texts.json

WEIGHTS is the folder of all-MiniLM-L6-v2, as it was published. The texts are embedded one by one, as many as `alone`
says, then all in batches; a line of JSON says how long that took. This file imports nothing of ours.
"""

import json
import sys
from time import perf_counter, process_time

from sentence_transformers import SentenceTransformer


def main() -> None:
    """Embed, and tell."""
    task = json.load(sys.stdin)
    model = SentenceTransformer(sys.argv[1], device="cpu")
    texts, alone = task["texts"], task["texts"][: task["alone"]]
    model.encode(alone[:2])
    begun = perf_counter()
    for text in alone:
        model.encode([text])
    single_ms = 1000 * (perf_counter() - begun) / len(alone)
    begun, cpu = perf_counter(), process_time()
    model.encode(texts, batch_size=32)
    took_s, cpu_s = perf_counter() - begun, process_time() - cpu
    found = {"single_ms": single_ms, "batch_per_s": len(texts) / took_s, "cpu_ms": 1000 * cpu_s / len(texts)}
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
