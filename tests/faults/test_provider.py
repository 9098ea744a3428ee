"""A provider that refuses, answers nonsense or not at all: memories are stored all the same, vectors come later."""

import asyncio
import json
from collections.abc import Callable, Iterator
from time import monotonic

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from memlane.bench.provider import FakeProvider
from memlane.contract import Event
from memlane.storage.jobs import Kind
from memlane.storage.migrator import migrate
from memlane.tasks.embedders import model_of
from memlane.tasks.lane import Lane
from tests.integration.test_embedders import BAD_ANSWERS, DIMS, Answer, data, serving
from tests.support import MakeSettings, accepted, count_rows, drain_all, eventually, item, ledger_of

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

MEMORIES = 6

_KNOWN = ("500", "401", "not JSON", "a list", "wrong dimensions", "half of the vectors", "NaN")

MOODS: dict[str, Answer | None] = {
    **{name: BAD_ANSWERS[name] for name in _KNOWN},
    "429": lambda _: JSONResponse({"error": {"message": "slow down"}}, 429, {"Retry-After": "2"}),
    "infinite": lambda texts: data([[float("inf")] * DIMS for _ in texts]),
    "silent": None,
}
"""What it says; None is nothing."""


class Moody(FakeProvider):
    """A provider that is well, or in a mood."""

    def __init__(self) -> None:
        super().__init__(0, DIMS)
        self.mood: str | None = None
        self.asked = 0
        """How many requests came."""

    def moody(self) -> Starlette:
        """The endpoint, in its mood."""

        async def embed(request: Request) -> Response:
            self.asked += 1
            if self.mood is None:
                return await self._embed(request)
            answer = MOODS[self.mood]
            if answer is None:
                await asyncio.sleep(2)
                return Response(status_code=204)
            return answer(json.loads(await request.body())["input"])

        return Starlette(routes=[Route("/v1/embeddings", embed, methods=["POST"])])


@pytest.fixture
def moody() -> Iterator[tuple[Moody, str]]:
    """The provider, and its URL."""
    made = Moody()
    with serving(made.moody()) as url:
        yield made, url


def test_moods(make_settings: MakeSettings, make_lane: Callable[..., Lane], moody: tuple[Moody, str]) -> None:
    provider, url = moody
    settings = make_settings(embedder="openai", openai_base_url=url, openai_dims=DIMS, embed_timeout_s=0.5)
    migrate(settings, model_of(settings))
    lane = make_lane(settings)
    for place, mood in enumerate(MOODS):
        before = MEMORIES * place
        provider.mood, provider.asked = mood, 0
        accepted(lane, *(item(f"{mood} {n}", agent=f"agent-{n}") for n in range(MEMORIES)))
        drain_all(lane, Kind.REMEMBER)
        assert count_rows(settings, lane.cluster, "memories") == before + MEMORIES, mood
        assert count_rows(settings, lane.cluster, lane.table) == before, mood
        asked = provider.asked
        until = monotonic() + 0.7
        while monotonic() < until:
            drain_all(lane)
        assert provider.asked - asked <= 1, mood  # it is left alone for a second, or as long as it has asked for
        assert asked <= 2, mood
        assert count_rows(settings, lane.cluster, "jobs", "kind = 'embed' AND deaths = 0") == MEMORIES, mood
        provider.mood = None
        eventually(lambda: _drained(lane), 30)
        assert count_rows(settings, lane.cluster, lane.table) == before + MEMORIES, mood
    assert count_rows(settings, lane.cluster, "ids", "state = 'searchable'") == MEMORIES * len(MOODS)
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.parked == 0
    assert balance.events[Event.STORED] == balance.events[Event.EMBEDDED] == MEMORIES * len(MOODS)


def _drained(lane: Lane) -> bool:
    drain_all(lane)
    return count_rows(lane.settings, lane.cluster, "jobs") == 0
