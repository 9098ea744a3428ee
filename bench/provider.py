"""An embeddings endpoint for benchmarks and tests: OpenAI's API, a fixed latency, deterministic vectors.

    python -m memlane.bench.provider --port 9000 --latency-ms 50 --dims 384 [--rpm 600] [--tpm 90000] [--at-once 4]

GET /stats tells how often it was asked, for how many inputs and tokens, how many requests there were at once, and how
often it refused.
"""

import argparse
import asyncio
import base64
import json
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from time import monotonic

import numpy as np
import numpy.typing as npt
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_TABLE = 4096


class FakeProvider:
    """Answers after a latency; beyond the limits of a sliding minute it answers 429 with Retry-After."""

    def __init__(
        self, latency_ms: float, dims: int, rpm: int = 0, tpm: int = 0, at_once: int = 0, minute_s: float = 60.0
    ) -> None:
        self._latency_s = latency_ms / 1000
        self._rpm, self._tpm, self._at_once, self._minute_s = rpm, tpm, at_once, minute_s
        self._window: deque[float] = deque()
        self._tokens: deque[int] = deque()
        """Of the requests in the window."""
        self._under_way = 0
        table = np.random.default_rng(7).standard_normal((_TABLE, dims)).astype(np.float32)
        self._table = table / np.linalg.norm(table, axis=1, keepdims=True)
        self.stats = {"requests": 0, "inputs": 0, "tokens": 0, "rejected": 0, "at_once": 0}

    def app(self) -> Starlette:
        """The endpoint as an ASGI app."""
        return Starlette(routes=[Route("/v1/embeddings", self._embed, methods=["POST"]), Route("/stats", self._tell)])

    def vector(self, text: str) -> npt.NDArray[np.float32]:
        """A unit vector of its own for each text: two rows of a table, mixed."""
        digest = blake2b(text.encode(), digest_size=4).digest()
        first, second = (int.from_bytes(part, "big") % _TABLE for part in (digest[:2], digest[2:]))
        mixed = self._table[first] + 0.7 * self._table[second]
        found: npt.NDArray[np.float32] = (mixed / np.linalg.norm(mixed)).astype(np.float32)
        return found

    async def _embed(self, request: Request) -> Response:
        body = json.loads(await request.body())
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        tokens = count_tokens(texts)
        if self._over_limits(tokens):
            self.stats["rejected"] += 1
            error = {"error": {"message": "rate limited", "type": "rate_limit"}}
            return JSONResponse(error, 429, {"Retry-After": "1"})
        self.stats["requests"] += 1
        self.stats["inputs"] += len(texts)
        self.stats["tokens"] += tokens
        self._under_way += 1
        self.stats["at_once"] = max(self.stats["at_once"], self._under_way)
        try:
            await asyncio.sleep(self._latency_s)
        finally:
            self._under_way -= 1
        form = _base64 if body.get("encoding_format") == "base64" else _floats
        data = [
            {"object": "embedding", "index": n, "embedding": form(self.vector(text))} for n, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": body.get("model", "fake"), "usage": usage})

    async def _tell(self, _request: Request) -> Response:
        return JSONResponse(self.stats)

    def _over_limits(self, tokens: int) -> bool:
        """Whether a request is one too many; it counts if not."""
        now = monotonic()
        while self._window and self._window[0] < now - self._minute_s:
            self._window.popleft()
        while len(self._tokens) > len(self._window):
            self._tokens.popleft()
        over = (
            0 < self._rpm <= len(self._window)
            or 0 < self._tpm < sum(self._tokens) + tokens
            or 0 < self._at_once <= self._under_way
        )
        if not over and (self._rpm or self._tpm):
            self._window.append(now)
            self._tokens.append(tokens)
        return over


def count_tokens(texts: Sequence[str]) -> int:
    """As this provider counts."""
    return sum(len(text) // 4 + 1 for text in texts)


def _base64(vector: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(vector.tobytes()).decode()


def _floats(vector: npt.NDArray[np.float32]) -> list[float]:
    found: list[float] = vector.tolist()
    return found


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--rpm", type=int, default=0, help="requests a minute before 429; 0: no limit")
    parser.add_argument("--tpm", type=int, default=0, help="tokens a minute before 429; 0: no limit")
    parser.add_argument("--at-once", type=int, default=0, help="requests at once before 429; 0: no limit")
    given = parser.parse_args()
    app = FakeProvider(given.latency_ms, given.dims, given.rpm, given.tpm, given.at_once).app()
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
