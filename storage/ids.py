"""Identities: each memory is accepted once, and its state is known for good."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

from memlane.contract import State
from memlane.storage import queries
from memlane.storage.cluster import Shard

_SQL = queries.load("ids")


Key: TypeAlias = tuple[int, UUID]
"""An agent's number and a memory's id."""

Known: TypeAlias = tuple[State, str | None]
"""A state, and why it is parked, or waits for its vector."""


class Outcome(StrEnum):
    """What became of an item that was offered."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    """The id came before with other content."""
    UNSEEN = "unseen"
    """Somebody accepted the same id at this very moment: offer it again to learn what it is."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One item that is offered for acceptance: whose it is, identity, hash of its text, and the job's payload."""

    tenant: str
    agent: int
    id: UUID
    hash: bytes
    thread: str | None
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an offer, and how far the memory that holds the id has come, if it is not this one."""

    outcome: Outcome
    state: State | None


class _Refused(Exception):
    """Rolls an atomic batch back."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers


def accept(shard: Shard, offers: Sequence[Offer]) -> list[Answer]:
    """Accept items in one transaction, whosever they are; the answers are in the order of the offers.

    Of two with the same identity one comes out as unseen.
    """
    return _answers(shard.write(_SQL["accept"], _params(offers)))


def accept_at_once(batches: Sequence[tuple[Shard, Sequence[Offer]]]) -> list[list[Answer]]:
    """As `accept`, on several shards of one node in one transaction, so that all of it takes one commit.

    Args:
        batches: shards with what is offered there, by ascending number, so that nobody waits in a circle.

    Raises:
        MemlaneError: one of the shards refused; nothing was accepted anywhere.
    """
    node = batches[0][0].node
    with node.connection(writes=True) as connection, connection.pipeline(), connection.transaction():
        cursors = [
            connection.execute(
                shard.render(_SQL["accept"]), {**_params(offers), "epoch": shard.epoch}, prepare=True, binary=True
            )
            for shard, offers in batches
        ]
    return [_answers(cursor.fetchall()) for cursor in cursors]


def accept_all_or_none(shard: Shard, offers: Sequence[Offer]) -> list[Answer]:
    """As `accept`, but nothing is accepted when one of the offers is in conflict."""
    query = shard.render(_SQL["accept"])
    params = {**_params(offers), "epoch": shard.epoch}
    try:
        with shard.node.connection(writes=True) as connection, connection.transaction():
            answers = _answers(connection.execute(query, params).fetchall())
            if any(answer.outcome in (Outcome.CONFLICT, Outcome.UNSEEN) for answer in answers):
                raise _Refused(answers)
    except _Refused as refused:
        return refused.answers
    return answers


def states(shard: Shard, wanted: Sequence[Key]) -> dict[Key, Known]:
    """State, and why it is parked or waits for its vector, by agent's number and id; unknown ones are left out."""
    return _states(shard.run(_SQL["states"], _wanted(wanted)))


def states_at_once(wanted: Sequence[tuple[Shard, Sequence[Key]]]) -> list[dict[Key, Known]]:
    """As `states`, on several shards of one node in one round trip."""
    node = wanted[0][0].node
    with node.connection() as connection, connection.pipeline():
        cursors = [
            connection.execute(shard.render(_SQL["states"]), _wanted(keys), prepare=True, binary=True)
            for shard, keys in wanted
        ]
        return [_states(cursor.fetchall()) for cursor in cursors]


def _wanted(keys: Sequence[Key]) -> dict[str, Any]:
    return {"agents": [agent for agent, _ in keys], "ids": [id_ for _, id_ in keys]}


def _states(rows: Sequence[Sequence[Any]]) -> dict[Key, Known]:
    return {(agent, id_): (State(state), error) for agent, id_, state, error in rows}


def _params(offers: Sequence[Offer]) -> dict[str, Any]:
    items = [
        {
            "tenant": o.tenant,
            "agent": o.agent,
            "id": str(o.id),
            "hash": o.hash.hex(),
            "thread": o.thread,
            "payload": o.payload,
        }
        for o in offers
    ]
    return {"items": json.dumps(items, ensure_ascii=False, separators=(",", ":"))}


def _answers(rows: Sequence[Sequence[str | None]]) -> list[Answer]:
    return [Answer(Outcome(str(outcome)), State(state) if state else None) for outcome, state in rows]
