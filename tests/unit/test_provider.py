"""The provider is asked once, and not again before its time."""

from collections.abc import Sequence

import numpy as np
import pytest

from memlane.errors import ProviderRefused
from memlane.storage.models import Model
from memlane.storage.spending import Group
from memlane.tasks.embedders import Embedding
from memlane.tasks.embedders.contract import unit_rows
from memlane.tasks.provider import Embedded, Provider, Wanted
from tests.generous import NoLimits, Rich


class Scripted:
    """An embedder that refuses texts with certain words."""

    model = Model("scripted", 2)
    most_texts = most_chars = 10**9

    def __init__(self, refusal: ProviderRefused, bad: str = "bad") -> None:
        self.refusal, self.bad = refusal, bad
        self.asked: list[list[str]] = []

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    def embed(self, texts: Sequence[str]) -> Embedding:
        self.asked.append(list(texts))
        if any(self.bad in text for text in texts):
            raise self.refusal
        return Embedding(np.tile(np.array([[1.0, 0.0]], np.float32), (len(texts), 1)), len(texts))


def provider_of(embedder: Scripted) -> Provider:
    return Provider(embedder, NoLimits(), Rich())


def embed(provider: Provider, texts: Sequence[str]) -> Embedded:
    return provider.embed([Wanted(Group("acme", "ada"), text) for text in texts], 0.0)


def test_one_bad_text_does_not_spoil_its_batch() -> None:
    embedder = Scripted(ProviderRefused("400", about_input=True))
    answer = embed(provider_of(embedder), ["a", "b", "bad", "d", "e"])
    assert sorted(answer.vectors) == [0, 1, 3, 4]
    assert answer.refusals.keys() == {2}
    assert len(embedder.asked) <= 7


def test_a_few_bad_texts_at_the_head_do_not_shut_a_provider_off() -> None:
    embedder = Scripted(ProviderRefused("400", about_input=True))
    answer = embed(provider_of(embedder), ["bad", "bad", "bad", *(f"text {n}" for n in range(253))])
    assert sorted(answer.vectors) == list(range(3, 256))


def test_one_that_refuses_every_text_is_left_alone_soon() -> None:
    embedder = Scripted(ProviderRefused("400", retry_after_s=30, about_input=True), bad="")
    provider = provider_of(embedder)
    answer = embed(provider, [f"text {n}" for n in range(256)])
    assert answer.vectors == {}
    assert len(embedder.asked) < 16
    assert embed(provider, ["more"]).refusals
    assert len(embedder.asked) < 16


def test_after_a_refusal_nobody_asks_until_the_time_that_was_named() -> None:
    embedder = Scripted(ProviderRefused("429", retry_after_s=30))
    provider = provider_of(embedder)
    assert embed(provider, ["bad"]).refusals
    later = embed(provider, ["good"]).refusals[0]
    assert 29 < later.retry_after_s <= 30
    assert len(embedder.asked) == 1


def test_when_the_time_is_over_it_is_asked_again() -> None:
    embedder = Scripted(ProviderRefused("429", retry_after_s=-1))
    provider = provider_of(embedder)
    embed(provider, ["bad"])
    assert not embed(provider, ["good"]).refusals


def test_nothing_is_asked_for_nothing() -> None:
    embedder = Scripted(ProviderRefused("x"))
    assert embed(provider_of(embedder), []).vectors == {}
    assert embedder.asked == []


@pytest.mark.parametrize(
    "rows",
    [
        np.ones((1, 2), np.float32),
        np.ones((2, 3), np.float32),
        np.array([[1, np.nan], [1, 1]], np.float32),
        np.array([[0, 0], [1, 1]], np.float32),
        np.array([[np.inf, 0], [1, 1]], np.float32),
    ],
)
def test_an_unusable_answer_is_a_refusal(rows: "np.typing.NDArray[np.float32]") -> None:
    with pytest.raises(ProviderRefused):
        unit_rows(rows, 2, 2)


def test_vectors_have_length_one() -> None:
    assert np.allclose(np.linalg.norm(unit_rows(np.array([[3, 4], [0, 2]], np.float32), 2, 2), axis=1), 1)
