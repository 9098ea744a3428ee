"""How fast memories are read back: one by its id, and all of an agent's, page by page."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from time import perf_counter

from memlane.client import Client


def bench_get(client: Client, agent: str, calls: int) -> list[float]:
    """Milliseconds to read one memory by its id; each call reads another one."""
    ids = [memory.id for memory in islice(client.memories(agent), calls)]
    return [_ms(partial(client.get, agent, id_)) for id_ in ids]


def bench_scan(client: Client, agent: str, size: int, scans: int) -> list[float]:
    """Milliseconds to list all memories of an agent that has so many.

    Raises:
        LookupError: a list was not of that size.
    """

    def scan() -> None:
        if (found := sum(1 for _ in client.memories(agent))) != size:
            raise LookupError(f"a scan found {found} of {size} memories")

    return [_ms(scan) for _ in range(scans)]


def _ms(call: Callable[[], object]) -> float:
    begun = perf_counter()
    call()
    return (perf_counter() - begun) * 1000
