"""A provider that behaves, until it is told in which way not to."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from memlane.bench.provider import FakeProvider

DIMS = 16

_LONGEST_S = 30.0
"""How long an answer is held back that never comes."""


_SAME = FakeProvider(0, DIMS)


def vector_of(text: str) -> npt.NDArray[np.float32]:
    """The vector that a provider has made of a text, of length 1."""
    return _SAME.vector(text)


class Mood(Enum):
    """How it answers."""

    GOOD = "good"
    BUSY = "429"
    BROKEN = "500"
    GARBAGE = "garbage"
    OTHER_DIMENSIONS = "other dimensions"
    NOT_NUMBERS = "NaN"
    HALF = "half the vectors"
    NEVER = "no answer"


BAD = tuple(mood for mood in Mood if mood is not Mood.GOOD)


class MoodyProvider(FakeProvider):
    """OpenAI's API with vectors that are made from the text alone."""

    def __init__(self) -> None:
        super().__init__(5, DIMS)
        self.mood = Mood.GOOD

    @contextmanager
    def being(self, mood: Mood) -> Iterator[None]:
        """In a mood for the time of the block."""
        self.mood = mood
        try:
            yield
        finally:
            self.mood = Mood.GOOD

    def app(self) -> Starlette:
        """The endpoint."""
        return Starlette(routes=[Route("/v1/embeddings", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._in_mood(request)
        except ClientDisconnect:
            return Response()

    async def _in_mood(self, request: Request) -> Response:
        match self.mood:
            case Mood.BUSY:
                return JSONResponse({"error": {"message": "rate limited"}}, 429, {"Retry-After": "1"})
            case Mood.BROKEN:
                return JSONResponse({"error": {"message": "it is not well"}}, 500)
            case Mood.GARBAGE:
                return Response(b"<html>welcome</html>", media_type="application/json")
            case Mood.NEVER:
                await self._while_silent()
        answer = await self._embed(request)
        return answer if self.mood is Mood.GOOD else _spoiled(answer, self.mood)

    async def _while_silent(self) -> None:
        for _ in range(int(_LONGEST_S / 0.1)):
            if self.mood is not Mood.NEVER:
                return
            await asyncio.sleep(0.1)


def _spoiled(answer: Response, mood: Mood) -> Response:
    body: dict[str, Any] = json.loads(bytes(answer.body))
    for one in body["data"]:
        if mood is Mood.OTHER_DIMENSIONS:
            one["embedding"] = [0.5] * (DIMS + 1)
        elif mood is Mood.NOT_NUMBERS:
            one["embedding"] = [float("nan")] * DIMS
    if mood is Mood.HALF:
        body["data"] = body["data"][: len(body["data"]) // 2]
    return Response(json.dumps(body), media_type="application/json")
