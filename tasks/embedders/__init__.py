"""Embedders: one contract, and an implementation for each source of vectors."""

from memlane.config.settings import EmbedderName, Settings
from memlane.errors import Misconfigured
from memlane.storage.models import Model
from memlane.tasks.embedders.contract import Embedder, Embedding

__all__ = ["Embedder", "Embedding", "called", "check_embedder", "make_embedder", "model_of"]


def model_of(settings: Settings) -> Model:
    """The model that the settings ask for; nothing is loaded."""
    match settings.embedder:
        case EmbedderName.HASH:
            return Model("hash", 384)
        case EmbedderName.MINILM:
            return Model("all-minilm-l6-v2", 384)
        case EmbedderName.OPENAI:
            return Model(f"{settings.openai_model}@{settings.openai_dims}", settings.openai_dims)


def called(settings: Settings) -> str:
    """What the price list calls the model that the settings ask for."""
    return settings.openai_model if settings.embedder is EmbedderName.OPENAI else model_of(settings).name


def check_embedder(settings: Settings) -> None:
    """Find out, without loading anything, whether the embedder that the settings name can work.

    Raises:
        ModelMissing: the weights of a local model are not on this machine.
        Misconfigured: there is no API key for OpenAI's own endpoint.
    """
    match settings.embedder:
        case EmbedderName.HASH:
            pass
        case EmbedderName.MINILM:
            from memlane.tasks.embedders.minilm import find_weights

            find_weights(settings)
        case EmbedderName.OPENAI:
            if not settings.openai_api_key.get_secret_value() and settings.openai_base_url is None:
                raise Misconfigured("the embedder openai needs MEMLANE_OPENAI_API_KEY, or MEMLANE_OPENAI_BASE_URL")


def make_embedder(settings: Settings) -> Embedder:
    """The embedder that the settings name; its library is imported only now.

    Raises:
        ModelMissing: the weights of a local model are not on this machine.
    """
    model = model_of(settings)
    match settings.embedder:
        case EmbedderName.HASH:
            from memlane.tasks.embedders.hash import HashEmbedder

            return HashEmbedder(model)
        case EmbedderName.MINILM:
            from memlane.tasks.embedders.minilm import MiniLM

            return MiniLM(model, settings)
        case EmbedderName.OPENAI:
            from memlane.tasks.embedders.openai import OpenAIEmbedder

            return OpenAIEmbedder(model, settings)
