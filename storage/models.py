"""Embedding models: each has a table of vectors in every shard, and one of them is current."""

import re
from dataclasses import dataclass
from hashlib import sha256

from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("models")


@dataclass(frozen=True, slots=True)
class Model:
    """An embedding model: the name that its embedder gives itself, and the dimensions of its vectors."""

    name: str
    dims: int


def backfilled(control: Node, model: Model) -> None:
    """Note that jobs were opened for all memories that lacked the current model's vectors."""
    control.run(_SQL["backfilled"].render(), {"model": model.name})


def table_name(model: str) -> str:
    """The table of a model's vectors: readable, unique, and a plain SQL identifier.

    Two models whose names differ in signs only are told apart by four bytes of SHA-256.
    """
    plain = re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")[:40]
    if plain != model:
        plain = f"{plain}_{sha256(model.encode()).hexdigest()[:8]}"
    return f"vectors_{plain}"
