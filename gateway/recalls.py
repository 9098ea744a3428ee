"""One recall over all shards where its agents live, side by side; none of them can hold it up for long."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from memlane.contract import Memory
from memlane.errors import Unavailable
from memlane.gateway.state import Gateway
from memlane.gateway.threads import LOOK_S
from memlane.tasks import ranking, recall
from memlane.tasks.ranking import Ranked
from memlane.tasks.recall import Answer, Found, Question, Read, Refused


async def recalled(gateway: Gateway, question: Question) -> Answer:
    """The best hits of all agents that could be asked, and which could not.

    Raises:
        Unavailable: none could.
    """
    places = recall.place(gateway.lane, question)
    if len(places) == 1:
        ((shard, names),) = places.items()
        return await gateway.threads.on_shard(shard, lambda: recall.alone(gateway.lane, question, shard, names))
    refused: list[Refused] = []
    found = await _search(gateway, question, places, refused)
    # Of a hundred agents there are twenty thousand candidates: too many for the loop that serves everybody.
    candidates = [candidate for one in found.values() for candidate in one.candidates]
    ranked = await asyncio.to_thread(ranking.rank, candidates, question.request.limit)
    read = await _read(gateway, found, ranked, places, refused)
    accesses = {shard: one.accesses(ranked) for shard, one in found.items()}
    answer = recall.recalled(question, ranked, read, found, refused)
    return Answer(answer, accesses, {} if question.request.all_agents else found)


async def _search(
    gateway: Gateway, question: Question, places: Mapping[int, Sequence[str]], refused: list[Refused]
) -> dict[int, Found]:
    """What each shard finds; those that do not answer in time are noted."""
    lane = gateway.lane

    def search(number: int) -> Found:
        return recall.on_shard(lane, number, lambda shard: recall.search(lane, shard, question, places[number]))

    done = await gateway.threads.on_each(places, search, gateway.settings.question_s)
    found: dict[int, Found] = {}
    for number, one in zip(places, done, strict=True):
        if isinstance(one, Found):
            found[number] = one
        else:
            refused.append(Refused(number, places[number], one))
    if not found:
        raise Unavailable("; ".join(dict.fromkeys(str(one.why) for one in refused)))
    return found


async def _read(
    gateway: Gateway,
    found: Mapping[int, Found],
    ranked: Sequence[Ranked],
    places: Mapping[int, Sequence[str]],
    refused: list[Refused],
) -> Read:
    """The memories of the best, from each shard that has some; those that fail now are noted as well."""

    def read(number: int) -> Read:
        return recall.on_shard(gateway.lane, number, lambda shard: recall.read(shard, found[number], ranked))

    wanted = list(_with_hits(found, ranked))
    memories: dict[tuple[str, int], Memory] = {}
    for number, one in zip(wanted, await gateway.threads.on_each(wanted, read, LOOK_S), strict=True):
        if isinstance(one, Unavailable):
            refused.append(Refused(number, places[number], one))
        else:
            memories |= one
    return memories


def _with_hits(found: Mapping[int, Found], ranked: Sequence[Ranked]) -> Iterable[int]:
    best = {one.candidate.agent for one in ranked}
    return (number for number, one in found.items() if best & one.numbers.keys())
