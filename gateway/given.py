"""A recall as it is answered: once more what was answered before, as long as that holds, or what is found now."""

from time import perf_counter

from memlane.contract import RecallRequest, wire
from memlane.contract.recall import CacheUse
from memlane.gateway.answers import Given
from memlane.gateway.questions import Made
from memlane.gateway.recalls import recalled
from memlane.gateway.state import Gateway
from memlane.storage.spending import Group
from memlane.tasks.caches.levels import Kept, Wanted
from memlane.tasks.hooks import Operation
from memlane.tasks.recall import Answer, Question


async def given(gateway: Gateway, tenant: str, asked: RecallRequest, wanted: Wanted | None) -> Given:
    """The answer to a recall; what several ask at once is looked for once.

    Args:
        gateway: this process's.
        tenant: who asks.
        asked: what.
        wanted: the same of an agent of which answers are kept; None: nothing is kept.

    Raises:
        Unavailable: no agent could be asked.
    """
    if wanted is None:
        begun = perf_counter()
        made = await gateway.questions.vector(Group(tenant, asked.agent or ""), asked.query)
        embed_ms = (perf_counter() - begun) * 1000
        return _now(await _search(gateway, tenant, asked, made), made, embed_ms)
    kept = await gateway.answers.known(wanted)
    if kept is not None:
        # Its vector need not even be looked for: as far as the provider is concerned, the question was known.
        gateway.lane.measures.cache("questions", hits=1)
        return _again(wanted, kept, CacheUse.HIT)
    return await gateway.answers.flights.of(wanted.key, lambda: _found(gateway, tenant, asked, wanted))


async def _found(gateway: Gateway, tenant: str, asked: RecallRequest, wanted: Wanted) -> Given:
    """What a similar question was answered, or else what is found now, which is kept."""
    caches = gateway.lane.caches
    others = gateway.answers.others(asked) if caches.compares else b""
    begun = perf_counter()
    made = await gateway.questions.vector(Group(tenant, asked.agent or ""), asked.query, wanted.version)
    embed_ms = (perf_counter() - begun) * 1000
    kept = None if made.vector is None else caches.alike(wanted, others, made.vector)
    if kept is not None:
        return _again(wanted, kept, CacheUse.SIMILAR)
    answer = await _search(gateway, tenant, asked, made)
    found = _now(answer, made, embed_ms)
    if made.vector is not None and not answer.recalled.degraded and not answer.recalled.missing:
        numbers = (number for accesses in answer.accesses.values() for _, number in accesses)
        gateway.answers.keep(wanted, found.body, numbers, [hit.memory for hit in answer.recalled])
        caches.keep_alike(wanted, others, made.vector)
    return found


async def _search(gateway: Gateway, tenant: str, asked: RecallRequest, made: Made) -> Answer:
    shard = None if asked.agent is None else gateway.lane.cluster.shard_of(tenant, asked.agent)
    with gateway.lane.hooks.around(Operation("search", tenant, shard)):
        return await recalled(gateway, Question(tenant, asked, made.vector, made.refusal))


def _now(answer: Answer, made: Made, embed_ms: float) -> Given:
    counts: dict[str, int] = {}
    for hit in answer.recalled:
        counts[hit.memory.agent] = counts.get(hit.memory.agent, 0) + 1
    hits = {
        (shard, number, found.marks[number]): counts.get(name, 0)
        for shard, found in answer.found.items()
        for name, number in found.numbers.items()
    }
    return Given(wire.dump(answer.recalled), answer.accesses, hits, made.cached, embed_ms)


def _again(wanted: Wanted, kept: Kept, how: CacheUse) -> Given:
    version = wanted.version
    accesses = {version.shard: {(version.number, number): 1 for number in kept.numbers}}
    hits = {(version.shard, version.number, version.forgotten_before): len(kept.numbers)}
    # The answer is an object with hits in it: what is said of the cache goes before them, and nothing is made again.
    return Given(b'{"cache":"%b",' % how.value.encode() + kept.body[1:], accesses, hits, known=True)
