"""Any endpoint that speaks OpenAI's embeddings API, through the openai SDK."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import openai

from memlane.config.settings import Settings
from memlane.errors import ProviderRefused
from memlane.storage.halfvec import Matrix
from memlane.storage.models import Model
from memlane.tasks.embedders.contract import Embedding, unit_rows

_WINDOW = 8191
"""Tokens that OpenAI's embedding models read."""


class OpenAIEmbedder:
    """Asks in batches; leaves retrying to the jobs, which wait without holding anything up."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self._name = settings.openai_model
        self._texts, self._chars = settings.embed_texts, settings.embed_chars
        self._extra: dict[str, Any] = {"dimensions": settings.openai_dims} if settings.openai_send_dims else {}
        self._client = openai.OpenAI(
            api_key=settings.openai_api_key.get_secret_value() or "none",  # else the SDK looks for one by itself
            base_url=settings.openai_base_url,
            timeout=settings.embed_timeout_s,
            max_retries=0,
        )

    def embed(self, texts: Sequence[str]) -> Embedding:
        """Embed texts, in as many requests as the limits ask for."""
        answers = [self._request(batch) for batch in batches(texts, self._texts, self._chars)]
        return Embedding(np.vstack([a.vectors for a in answers]), sum(a.tokens for a in answers))

    def _request(self, texts: list[str]) -> Embedding:
        try:
            # The raw answer: making the SDK's object of each number costs more than all the rest.
            raw = self._client.embeddings.with_raw_response.create(
                input=texts, model=self._name, encoding_format="base64", **self._extra
            )
            answer = json.loads(raw.content)
            rows = _rows(answer)
            tokens = int((answer.get("usage") or {}).get("total_tokens", 0))
        except openai.BadRequestError:
            return self._shortened(texts)
        except openai.APIStatusError as error:
            raise ProviderRefused(f"the provider answered {error.status_code}", _retry_after_s(error)) from None
        except openai.APIError as error:
            raise ProviderRefused(f"the provider did not answer ({type(error).__name__})") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ProviderRefused("the provider's answer is not what its API promises") from None
        return Embedding(unit_rows(rows, len(texts), self.model.dims), tokens)

    def _shortened(self, texts: list[str]) -> Embedding:
        """What to do about 400: a single text may be longer than the model's window; try its first half.

        A text of n bytes has at most n tokens, so below the window it cannot be the length.
        """
        if len(texts) == 1 and len(texts[0].encode()) > _WINDOW:
            return self._request([texts[0][: len(texts[0]) // 2]])
        raise ProviderRefused("the provider answered 400", about_input=True)


def batches(texts: Sequence[str], most_texts: int, most_chars: int) -> Iterator[list[str]]:
    """Cut a sequence of texts into requests that keep both limits; one text alone may exceed the second."""
    batch: list[str] = []
    chars = 0
    for text in texts:
        if batch and (len(batch) == most_texts or chars + len(text) > most_chars):
            yield batch
            batch, chars = [], 0
        batch.append(text)
        chars += len(text)
    if batch:
        yield batch


def _rows(answer: dict[str, Any]) -> Matrix:
    """The vectors in the order of the texts; some endpoints send numbers though base64 was asked for."""
    data = sorted(answer["data"], key=lambda item: item["index"])
    if [item["index"] for item in data] != list(range(len(data))):
        raise ValueError("indices")
    rows = [
        np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
        if isinstance(item["embedding"], str)
        else np.asarray(item["embedding"], np.float32)
        for item in data
    ]
    return np.stack(rows)


def _retry_after_s(error: openai.APIStatusError) -> float:
    try:
        return max(0.1, min(float(error.response.headers.get("retry-after", "1")), 3600.0))
    except ValueError:
        return 1.0
