"""What is measured of a peer, run by the peer's own Python: this file imports the standard library alone.

    .bench/mem0/bin/python -I bench/peers/measure.py bench/peers/mem0.py < task.json

The task says where the servers are and how much is asked; `memlane.bench.compare` writes it. Lines of progress come
out, and at the end one line with a JSON document in the form of `memlane.bench.systems.Measured`.
"""

import json
import os
import sys
import traceback
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, Protocol

Memories = Sequence[tuple[str, str]]
"""Pairs of an agent and a text."""

Way = tuple[str, int, int, Callable[[Memories], None]]
"""A way to store many: its name, how many calls side by side, memories in a call, and what does it."""

_AGENTS = 100
_WORDS = 160
"""Characters that a failure is told in; the rest of it is in the peer's log."""


class Peer(Protocol):
    """A peer's calls, as its file's `opened` gives them; a call that the peer does not have is None."""

    packages: Sequence[str]
    """Whose versions are told."""
    notes: Sequence[str]
    """What its figures do not show."""
    ways: Sequence[Way]

    store: Callable[[str, str], str]
    """Store a text of an agent; its id."""
    searchable: Callable[[str, str], None] | None
    """Wait until a text of an agent can be found by meaning; None where it can when `store` returns."""
    store_many: Callable[[str, Sequence[str]], None] | None
    get: Callable[[str, str], bool] | None
    """Whether an agent has a memory of an id."""
    search: Callable[[str, str], int] | None
    """How many of 10 an agent has for a question."""
    scan: Callable[[str], int] | None
    """How many memories a list of all of an agent's has."""
    fill: Callable[[str, Sequence[str]], None] | None
    """Give an agent many memories in the fastest way."""
    count: Callable[[], int]
    """How many memories are stored and searchable, as Postgres says."""


class Measurement:
    """One peer, measured call by call."""

    def __init__(self, peer: Peer, task: dict[str, Any], texts: ModuleType, cpu: ModuleType) -> None:
        self._peer = peer
        self._cpu = cpu
        self._task = task
        self._texts = texts.fresh_texts(1)
        self._questions = texts.queries(1)

    def document(self) -> dict[str, Any]:
        """All figures."""
        return {
            "versions": {name: version(name) for name in self._peer.packages},
            "notes": list(self._peer.notes),
            "ways": [self._way(*way) for way in self._peer.ways],
            "latency_ms": {**self._stores(), **self._batches(), **self._reads()},
        }

    def _way(self, name: str, side_by_side: int, batch: int, run: Callable[[Memories], None]) -> dict[str, Any]:
        alone = side_by_side == batch == 1
        memories = [
            (f"agent-{number % _AGENTS}", next(self._texts))
            for number in range(self._task["one_by_one" if alone else "memories"])
        ]
        before, asked, cpu_s = self._peer.count(), self._asked(), self._cpu_s()
        begun = perf_counter()
        run(memories)
        took_s = perf_counter() - begun
        spent = self._cpu.since(cpu_s, self._cpu_s())
        stored, asked_then = self._peer.count() - before, self._asked()
        print(f"{name}: {stored / took_s:.0f} memories/s", flush=True)  # noqa: T201
        return {
            "name": name,
            "side_by_side": side_by_side,
            "batch": batch,
            "memories": len(memories),
            "stored": stored,
            "searchable_per_s": round(stored / took_s, 1),
            "requests": asked_then[0] - asked[0],
            "inputs": asked_then[1] - asked[1],
            "cpu_s": spent,
        }

    def _cpu_s(self) -> dict[str, float]:
        """CPU seconds so far of the servers, of this process, and of what it has started."""
        kinds = {int(pid): kind for pid, kind in self._task["kinds"].items()}
        kinds |= dict.fromkeys(self._cpu.children(os.getpid()), "workers")
        found: dict[str, float] = self._cpu.taken({**kinds, os.getpid(): "client"})
        return found

    def _stores(self) -> dict[str, list[float]]:
        returned, searchable = [], []
        for text in self._some(self._task["calls"]):
            begun = perf_counter()
            self._peer.store("latency", text)
            returned.append(_ms(begun))
            if self._peer.searchable:
                self._peer.searchable("latency", text)
            searchable.append(_ms(begun) if self._peer.searchable else returned[-1])
        return {"store_one": returned, "store_one_searchable": searchable}

    def _batches(self) -> dict[str, list[float]]:
        store_many = self._peer.store_many
        if store_many is None:
            return {}
        times = []
        for _ in range(self._task["batches"]):
            texts = self._some(100)
            begun = perf_counter()
            store_many("latency", texts)
            times.append(_ms(begun))
        return {"batch_of_100": times, "batch_of_100_searchable": times}

    def _reads(self) -> dict[str, list[float]]:
        """Of one agent that has many memories."""
        found: dict[str, list[float]] = {}
        if self._peer.fill is None:
            return found
        size, calls = self._task["agent_size"], self._task["calls"]
        ids = [self._peer.store("large", text) for text in self._some(min(size, calls))]
        self._peer.fill("large", self._some(size - len(ids)))
        print(f"an agent has {size} memories", flush=True)  # noqa: T201
        if get := self._peer.get:
            found["get"] = self._times((partial(get, "large", id_) for id_ in ids), 1)
        if search := self._peer.search:
            questions = islice(self._questions, calls)
            found["search"] = self._times((partial(search, "large", question) for question in questions), 1)
        if scan := self._peer.scan:
            found["scan"] = self._times((partial(scan, "large") for _ in range(self._task["scans"])), size)
        return found

    def _times(self, calls: Iterator[Callable[[], int]], least: int) -> list[float]:
        """Milliseconds of each call; one that finds fewer than it has to is no figure."""
        times = []
        for call in calls:
            begun = perf_counter()
            found = call()
            times.append(_ms(begun))
            if found < least:
                raise LookupError(f"a call found {found}, not {least}")
        return times

    def _some(self, count: int) -> list[str]:
        return list(islice(self._texts, count))

    def _asked(self) -> tuple[int, int]:
        """Requests and inputs that the provider has counted."""
        with urllib.request.urlopen(self._task["provider"] + "/stats", timeout=10) as answer:  # noqa: S310  # ours
            stats = json.load(answer)
        return stats["requests"], stats["inputs"]


def _ms(begun: float) -> float:
    return (perf_counter() - begun) * 1000


def _loaded(path: Path) -> ModuleType:
    """A file as a module, by its path: neither its folder nor its name gets in the way of a peer's packages."""
    spec = spec_from_file_location(f"bench_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no module")
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Measure the peer whose file is named; a failure is told in one line."""
    task = json.load(sys.stdin)
    try:
        opened: AbstractContextManager[Peer] = _loaded(Path(sys.argv[1])).opened(task)
        with opened as peer:
            texts, cpu = (_loaded(Path(__file__).parents[1] / name) for name in ("texts.py", "cpu.py"))
            document = Measurement(peer, task, texts, cpu).document()
    except Exception as error:  # noqa: BLE001  # whatever a peer does, the others go on
        traceback.print_exc()
        said = str(error).strip().splitlines() or [""]
        document = {"failed": f"{type(error).__name__}: {said[0]}"[:_WORDS]}
    print(json.dumps(document), flush=True)  # noqa: T201
    sys.exit("failed" in document)


if __name__ == "__main__":
    main()
