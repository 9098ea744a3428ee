"""Strays: producers' messages that could not be taken in, kept with the reason instead of lost.

They live in any shard that answers. One that does not validate waits for an operator, who gives it up
or lets it be delivered again; one whose shard was down is sent on by the sweep. What is over a limit is
held back here as well: `held.py`.
"""

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4, uuid5

from memlane.contract.parked import Stray as StrayShown
from memlane.contract.status import StrayStatus
from memlane.errors import Unavailable
from memlane.storage import queries
from memlane.storage.cluster import Cluster, Shard
from memlane.storage.places import Place
from memlane.storage.queries import Query

_SQL = queries.load("strays")

_MESSAGES = UUID("2b6f0d34-9f0c-5e6a-9d53-6d656d6c616e")
"""The name space of ids of strays that were made of a message, or of a part of it."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A message that waits for its shard."""

    id: UUID
    task: str
    tenant: str
    payload: Mapping[str, Any]


def keep(
    cluster: Cluster,
    task: str,
    tenant: str | None,
    reason: str,
    payload: Mapping[str, Any],
    target: int | None = None,
    message_id: str = "",
) -> None:
    """Keep a message in the first shard that answers; those on the node that was down are asked last.

    Args:
        cluster: where to.
        task: the producer's task.
        tenant: whose it is, if that could be made out.
        reason: what is wrong with it, without content.
        payload: the message.
        target: the shard that was down, so that it is sent on; None for what is invalid.
        message_id: the same for every delivery of it, so that it is kept once.

    Raises:
        Unavailable: no shard answers; the message has to stay in the queue.
    """
    text = _text(payload)
    params = {
        "id": id_of(message_id, text) if message_id else uuid4(),
        "task": task,
        "tenant": tenant,
        "reason": _storable(reason),
        "payload": text,
        "target": target,
    }
    put(cluster, _SQL["keep"], params, cluster.node_of(target) if target is not None else None)


def id_of(message_id: str, text: str) -> UUID:
    """The id of a stray that was made of a message, or of a part of it; the same each time that it is."""
    return uuid5(_MESSAGES, f"{message_id}:{text}")


def put(cluster: Cluster, query: Query, params: Mapping[str, Any], down: str | None = None) -> None:
    """Write strays in the first shard that answers; those on the node that was down are asked last.

    Raises:
        Unavailable: no shard answers.
    """
    for shard in sorted(cluster.shards(), key=lambda shard: (shard.node.name == down, shard.number)):
        try:
            cluster.on(shard.number, lambda here: here.write(query, params))
        except Unavailable:
            continue
        return
    raise Unavailable("no shard answers")


def _storable(text: str) -> str:
    """A text as Postgres can hold it."""
    return text.encode(errors="replace").decode().replace("\x00", "?")


def _text(payload: Mapping[str, Any]) -> str:
    """A message as it came; one that JSON cannot hold as Python shows it."""
    try:
        return json.dumps(payload, default=repr)
    except (RecursionError, ValueError, TypeError):
        return json.dumps({"unreadable": reprlib.repr(payload)})


def targets(shard: Shard) -> list[int]:
    """The shards that messages kept here wait for."""
    return [target for (target,) in shard.run(_SQL["targets"])]


def waiting(shard: Shard, target: int, limit: int) -> Sequence[Stray]:
    """Messages kept here that wait for a shard, oldest first."""
    rows = shard.run(_SQL["waiting"], {"target": target, "limit": limit})
    return [Stray(id_, task, tenant, json.loads(payload)) for id_, task, tenant, payload in rows]


def drop(shard: Shard, id_: UUID) -> None:
    """A message has reached its shard."""
    shard.run(_SQL["drop"], {"id": id_})


def summary(shard: Shard) -> list[StrayStatus]:
    """What is kept here."""
    return [StrayStatus(*row) for row in shard.run(_SQL["summary"])]


@dataclass(frozen=True, slots=True)
class Which:
    """Which messages are meant; None where nothing is asked."""

    tenant: str | None = None
    task: str | None = None
    id: UUID | None = None

    @property
    def params(self) -> dict[str, Any]:
        """As parameters."""
        return {"tenant": self.tenant, "task": self.task, "id": self.id}


def listed(shard: Shard, which: Which, after: Place, limit: int) -> list[tuple[Place, StrayShown]]:
    """Messages kept here after a place, each with its own; without what they say."""
    rows = shard.run(_SQL["listed"], {**which.params, **after.params, "limit": limit})
    return [
        (
            Place(shard.number, since, id_),
            StrayShown(id_, shard.number, task, reason, since, size, tenant, target),
        )
        for id_, task, tenant, reason, since, size, target in rows
    ]


def retry(shard: Shard, ids: Sequence[UUID]) -> int:
    """Let the sweep deliver messages kept here again; how many of them had been refused."""
    return len(shard.write(_SQL["retry"], {"ids": list(ids), "target": shard.number}))


def give_up(shard: Shard, ids: Sequence[UUID]) -> int:
    """Give messages kept here up; how many of them had been refused."""
    return len(shard.write(_SQL["give_up"], {"ids": list(ids)}))
