"""The embedders keep one contract; the openai one against a provider that behaves, and one that does not."""

import asyncio
import base64
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from memlane.bench.provider import FakeProvider
from memlane.config.settings import Settings, load_settings
from memlane.errors import ModelMissing, ProviderRefused, RateRefused
from memlane.storage.spending import Group
from memlane.tasks.embedders import Embedder, make_embedder, model_of
from memlane.tasks.provider import Provider, Wanted
from tests.generous import NoLimits, Rich
from tests.support import eventually

DIMS = 16


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, loop="asyncio"))
    thread = Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    eventually(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def openai_settings(url: str, **more: object) -> Settings:
    return load_settings(embedder="openai", openai_base_url=url, openai_dims=DIMS, embed_timeout_s=5, **more)


@pytest.fixture(params=["hash", "minilm", "openai"])
def embedder(request: pytest.FixtureRequest, has_weights: bool) -> Iterator[Embedder]:
    if request.param == "minilm" and not has_weights:
        pytest.skip("the weights of minilm are not installed: make setup")
    if request.param == "openai":
        with serving(FakeProvider(0, DIMS).app()) as url:
            yield make_embedder(openai_settings(url))
        return
    yield make_embedder(load_settings(embedder=request.param))


def test_one_unit_vector_for_each_text_in_order(embedder: Embedder) -> None:
    texts = ["a cat sat on the mat", "stock markets fell", "x", "🫖", "long " * 2000]
    found = embedder.embed(texts)
    assert found.vectors.shape == (5, embedder.model.dims)
    assert found.vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-3)
    assert found.tokens > 0
    for number, text in enumerate(texts):
        assert np.allclose(embedder.embed([text]).vectors[0], found.vectors[number], atol=2e-2)


def test_the_model_is_known_without_loading_it(embedder: Embedder) -> None:
    name = {"hash": "hash", "all-minilm-l6-v2": "minilm"}.get(embedder.model.name, "openai")
    assert model_of(load_settings(embedder=name, openai_dims=DIMS)) == embedder.model


def test_minilm_knows_what_is_alike(has_weights: bool) -> None:
    if not has_weights:
        pytest.skip("the weights of minilm are not installed: make setup")
    vectors = (
        make_embedder(load_settings(embedder="minilm"))
        .embed(["a cat sat", "the kitten was sitting", "stock market"])
        .vectors
    )
    assert vectors[0] @ vectors[1] > 0.6
    assert vectors[0] @ vectors[2] < 0.2


def test_minilm_without_weights_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="memlane model fetch"):
        make_embedder(load_settings(embedder="minilm", minilm_dir=tmp_path))


def test_minilm_with_other_weights(tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelMissing, match="not those published"):
        make_embedder(load_settings(embedder="minilm", minilm_dir=tmp_path, model_cache=tmp_path / "cache"))


def test_many_texts_are_sent_in_several_requests() -> None:
    provider = FakeProvider(0, DIMS)
    with serving(provider.app()) as url:
        asking = Provider(make_embedder(openai_settings(url, embed_texts=10)), NoLimits(), Rich())
        asking.embed([Wanted(Group("acme", ""), f"text {n}") for n in range(25)], 0.0)
    assert provider.stats == {"requests": 3, "inputs": 25, "tokens": 50, "rejected": 0, "at_once": 1}


def test_429_names_its_time() -> None:
    with serving(FakeProvider(0, DIMS, rpm=1).app()) as url:
        embedder = make_embedder(openai_settings(url))
        embedder.embed(["one"])
        with pytest.raises(ProviderRefused, match="429") as caught:
            embedder.embed(["two"])
    assert caught.value.retry_after_s == 1


Answer = Callable[[list[str]], Response]


def answering(answer: Answer) -> Starlette:
    async def embed(request: Request) -> Response:
        return answer(json.loads(await request.body())["input"])

    return Starlette(routes=[Route("/v1/embeddings", embed, methods=["POST"])])


def data(vectors: list[list[float]]) -> Response:
    items: list[dict[str, Any]] = [
        {"index": n, "embedding": base64.b64encode(np.array(v, "<f4").tobytes()).decode()}
        for n, v in enumerate(vectors)
    ]
    return JSONResponse({"data": items, "usage": {"total_tokens": 1}})


GOOD = [1.0] + [0.0] * (DIMS - 1)

BAD_ANSWERS: dict[str, Answer] = {
    "500": lambda _: JSONResponse({"error": {}}, 500),
    "401": lambda _: JSONResponse({"error": {}}, 401),
    "not JSON": lambda _: Response("<html>"),
    "no data": lambda _: JSONResponse({"ok": True}),
    "a list": lambda _: JSONResponse([1, 2]),
    "wrong dimensions": lambda texts: data([[1.0, 2.0] for _ in texts]),
    "half of the vectors": lambda texts: data([GOOD for _ in texts[::2]]),
    "too many": lambda texts: data([GOOD for _ in [*texts, 1]]),
    "NaN": lambda texts: data([[float("nan")] * DIMS for _ in texts]),
    "zeros": lambda texts: data([[0.0] * DIMS for _ in texts]),
    "twice the same index": lambda _: JSONResponse({"data": [{"index": 0, "embedding": GOOD}] * 2}),
    "no base64": lambda texts: JSONResponse({"data": [{"index": n, "embedding": "!"} for n in range(len(texts))]}),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_every_bad_answer_is_a_refusal(name: str) -> None:
    with serving(answering(BAD_ANSWERS[name])) as url:
        embedder = make_embedder(openai_settings(url))
        with pytest.raises(ProviderRefused) as caught:
            embedder.embed(["secret text", "another"])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "charged"),
    [(7, 7), (-5, None), (0, None), (10**30, None), (float("inf"), None), ("7", None), (None, None)],
)
def test_a_count_of_tokens_that_cannot_be_is_none(said: object, charged: int | None) -> None:
    def answer(texts: list[str]) -> Response:
        usage = {"usage": {"total_tokens": said}}
        return Response(json.dumps({**json.loads(bytes(data([GOOD for _ in texts]).body)), **usage}))

    with serving(answering(answer)) as url:
        assert make_embedder(openai_settings(url)).embed(["text"]).tokens == (charged or 0)


@pytest.mark.parametrize(
    ("status", "charged"), [(400, 0), (401, 0), (408, None), (500, 0), (502, None), (503, 0), (504, None), (524, None)]
)
def test_what_an_error_cost(status: int, charged: int | None) -> None:
    with (
        serving(answering(lambda _: JSONResponse({"error": {}}, status))) as url,
        pytest.raises(ProviderRefused) as caught,
    ):
        make_embedder(openai_settings(url)).embed(["text"])
    assert caught.value.tokens == charged


def test_a_date_says_when_to_come_again() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)
    with (
        serving(answering(lambda _: JSONResponse({"error": {}}, 429, {"Retry-After": later}))) as url,
        pytest.raises(RateRefused) as caught,
    ):
        make_embedder(openai_settings(url)).embed(["text"])
    assert 110 < caught.value.retry_after_s <= 120


def test_nobody_there_is_a_refusal() -> None:
    with pytest.raises(ProviderRefused, match="did not answer"):
        make_embedder(openai_settings("http://127.0.0.1:1/v1")).embed(["text"])


def test_numbers_instead_of_base64_are_understood() -> None:
    with serving(
        answering(lambda texts: JSONResponse({"data": [{"index": 0, "embedding": GOOD} for _ in texts]}))
    ) as url:
        assert make_embedder(openai_settings(url)).embed(["text"]).vectors[0][0] == 1


def test_a_text_over_the_window_is_shortened() -> None:
    def strict(texts: list[str]) -> Response:
        if any(len(text) > 9000 for text in texts):
            return JSONResponse({"error": {"message": "too long"}}, 400)
        return data([GOOD for _ in texts])

    with serving(answering(strict)) as url:
        embedder = make_embedder(openai_settings(url))
        assert embedder.embed(["x" * 30_000]).vectors.shape == (1, DIMS)
        with pytest.raises(ProviderRefused) as caught:
            embedder.embed(["short", "x" * 30_000])
    assert caught.value.about_input
