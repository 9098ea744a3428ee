"""Any endpoint that speaks OpenAI's embeddings API, through the openai SDK."""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

import httpx
import numpy as np
import openai
from tokenizers import Tokenizer

from memlane.config.settings import Settings
from memlane.contract.tokens import bound
from memlane.errors import Misconfigured, ProviderRefused, RateRefused
from memlane.storage.halfvec import Matrix
from memlane.storage.models import Model
from memlane.tasks.embedders.contract import Embedding, unit_rows

_WINDOW = 8191
"""Tokens that OpenAI's embedding models read."""


_OF_ITS_OWN = (500, 501, 503)
"""Answers of 5xx that a provider gives itself; the others come from proxies that got none, or no whole one."""

_MOST_TOKENS = 2**31 - 1


class OpenAIEmbedder:
    """Asks once; leaves retrying to the jobs, which wait without holding anything up."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self._name = settings.openai_model
        self.most_texts, self.most_chars = settings.embed_texts, settings.embed_chars
        self._tokenizer = _tokenizer(settings)
        self._extra: dict[str, Any] = {"dimensions": settings.openai_dims} if settings.openai_send_dims else {}
        self._client = openai.OpenAI(
            api_key=settings.openai_api_key.get_secret_value() or "none",  # else the SDK looks for one by itself
            base_url=settings.openai_base_url,
            timeout=settings.embed_timeout_s,
            max_retries=0,
        )

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text is charged for at most.

        By the model's own tokenizer where the settings name its file. Else a bound: a vocabulary of bytes, or one
        that falls back to bytes, makes no more tokens of a text than it has bytes in UTF-8.
        """
        if self._tokenizer is not None:
            return [len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]
        return [bound(text) for text in texts]

    def embed(self, texts: Sequence[str]) -> Embedding:
        """Embed texts."""
        tokens: int | None = None
        try:
            # The raw answer: making the SDK's object of each number costs more than all the rest.
            raw = self._client.embeddings.with_raw_response.create(
                input=list(texts), model=self._name, encoding_format="base64", **self._extra
            )
            answer = json.loads(raw.content)
            tokens = _tokens(answer)
            return Embedding(unit_rows(_rows(answer), len(texts), self.model.dims), tokens or 0)
        except openai.BadRequestError:
            return self._shortened(texts)
        except openai.APIStatusError as error:
            raise _refusal(error) from None
        except openai.APIError as error:
            raise ProviderRefused(
                f"the provider did not answer ({type(error).__name__})", tokens=0 if _never_sent(error) else None
            ) from None
        except ProviderRefused as refusal:
            refusal.tokens = tokens
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise ProviderRefused("the provider's answer is not what its API promises", tokens=tokens) from None

    def _shortened(self, texts: Sequence[str]) -> Embedding:
        """What to do about 400: a single text may be longer than the model's window; try its first half.

        A text of n bytes has at most n tokens, so below the window it cannot be the length.
        """
        if len(texts) == 1 and len(texts[0].encode()) > _WINDOW:
            half = self.embed([texts[0][: len(texts[0]) // 2]])
            return replace(half, requests=half.requests + 1)
        raise ProviderRefused("the provider answered 400", about_input=True)


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


def _tokenizer(settings: Settings) -> Tokenizer | None:
    """The model's own tokenizer, if the settings name its file."""
    if settings.openai_tokenizer is None:
        return None
    try:
        made: Tokenizer = Tokenizer.from_file(str(settings.openai_tokenizer))
    except Exception as error:  # noqa: BLE001  # the library raises nothing more exact
        raise Misconfigured(f"MEMLANE_OPENAI_TOKENIZER: {settings.openai_tokenizer} is no tokenizer: {error}") from None
    made.no_padding()
    made.no_truncation()
    return made


def _refusal(error: openai.APIStatusError) -> ProviderRefused:
    """What an answer other than 200 means.

    An error costs nothing, unless it was made by something between us and the provider, which cannot know.
    """
    detail, after_s = f"the provider answered {error.status_code}", _retry_after_s(error)
    if error.status_code == 429 or (error.status_code == 503 and "retry-after" in error.response.headers):
        return RateRefused(detail, after_s)
    return ProviderRefused(detail, after_s, tokens=None if _unknown(error.status_code) else 0)


def _unknown(status: int) -> bool:
    """Whether an answer leaves open what the provider did."""
    return status == 408 or (status >= 500 and status not in _OF_ITS_OWN)


def _tokens(answer: dict[str, Any]) -> int | None:
    """How many tokens were charged, as far as the answer says so and can be believed."""
    said = (answer.get("usage") or {}).get("total_tokens")
    return said if isinstance(said, int) and 0 < said <= _MOST_TOKENS else None


def _never_sent(error: openai.APIError) -> bool:
    """Whether a request that was not answered surely never reached the provider."""
    return isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def _retry_after_s(error: openai.APIStatusError) -> float:
    """When to come again: in seconds, or at a date (RFC 9110, 10.2.3)."""
    said = error.response.headers.get("retry-after", "1")
    try:
        after_s = float(said)
    except ValueError:
        try:
            after_s = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            after_s = 1.0
    return max(0.1, min(after_s, 3600.0)) if isfinite(after_s) else 1.0
