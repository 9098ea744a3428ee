"""Jobs: durable requests in a shard, claimed under a lease and ended in the transaction of their effect."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from time import monotonic
from typing import Any, TypeAlias
from uuid import UUID, uuid4, uuid5

from memlane.errors import Unavailable
from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.connections import UNHURRIED
from memlane.storage.leases import TIMELINE, release_quietly
from memlane.storage.spending import OVER_BUDGET

_SQL = queries.load("jobs")

_OPTIMIZE = UUID("0f6f2f0e-5b1f-5a55-9b53-6d656d6c616e")
"""The name space of ids of optimize jobs, of which an agent has at most one open."""

SLICE = 5000
"""How many memories are looked at in one transaction for a missing vector, and how many jobs are made due in one."""

LOOKING_S = 8.0
"""How long one call looks for memories without a vector."""

_LAST = 2**63 - 1
"""No agent has a larger number."""


class Kind(StrEnum):
    """What a job asks for."""

    REMEMBER = "remember"
    """Write a memory, with its vector if that can be had."""
    EMBED = "embed"
    """Add the vector of a memory that is stored."""
    TEXT_EMBED = "text_embed"
    """Put the embedding of a bare text into the cache."""
    FORGET = "forget"
    """Remove the rows of an agent that was forgotten."""
    OPTIMIZE = "optimize"
    """Bring statistics up to date and give large agents an index."""


@dataclass(frozen=True, slots=True)
class Job:
    """One claimed job; `number` is the memory's where there is one, `agent` is None for bare texts."""

    number: int
    tenant: str
    agent: int | None
    id: UUID
    raw: str

    @property
    def payload(self) -> Mapping[str, Any]:
        """What it is about; read when it is worked on, so that one that cannot be read harms itself only."""
        parsed: Mapping[str, Any] = json.loads(self.raw)
        return parsed


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs of one kind that are leased to us until the lease runs out.

    Attributes:
        token: the lease's.
        kind: what they ask for.
        jobs: by number.
        last: the tenant after which the next claim goes on.
        full: whether there is likely to be more.
        suspect: whether a holder died with these jobs, so that no others may be done together with them.
    """

    token: UUID
    kind: Kind
    jobs: Sequence[Job]
    last: str = ""
    full: bool = False
    suspect: bool = False

    @property
    def numbers(self) -> list[int]:
        """The numbers of its jobs."""
        return [job.number for job in self.jobs]


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a claim: who holds it, for how long, how many jobs at most, and in which shares."""

    holder: str
    lease_s: float
    limit: int
    unseen: Callable[[Shard, UUID], None] | None = None
    """Told the token of a claim whose outcome is unknown; else it is given back on the spot."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """The shares of tenants; 1 for those that are not named."""
    limit_bytes: int = 4 * 1024 * 1024
    """From how much on no more are added, but one of each tenant."""


@dataclass(frozen=True, slots=True)
class Done:
    """What finishing a claim came to.

    Attributes:
        stored: memories that were written.
        searchable: vectors, or cached embeddings, that were written.
        dropped: jobs whose memory had been forgotten meanwhile.
        removed: memories that were removed.
        promoted: agents that got an index.
        fenced: the lease was lost, so nothing was done.
        refused: some were put off, because the provider or somebody else said so.
        failed: jobs that went wrong themselves, and are tried again in smaller claims.
    """

    stored: int = 0
    searchable: int = 0
    dropped: int = 0
    removed: int = 0
    promoted: int = 0
    fenced: bool = False
    refused: bool = False
    failed: int = 0

    def __add__(self, other: "Done") -> "Done":
        """What two claims came to."""
        return Done(**{f.name: _both(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})

    @property
    def counts(self) -> Mapping[str, int]:
        """What there was of each, without what there was not."""
        return {f.name: int(value) for f in fields(self) if (value := getattr(self, f.name))}

    def __str__(self) -> str:
        found = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name)}
        return ", ".join(name if value is True else f"{name} {value}" for name, value in found.items()) or "nothing"


def _both(one: Any, other: Any) -> Any:
    return one or other if isinstance(one, bool) else one + other


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many jobs of a kind wait, for a budget too, are worked on or parked; how long the oldest due one has waited.

    The kind may be one that only a newer version knows.
    """

    kind: str
    open: int
    leased: int
    parked: int
    oldest_s: float
    over_budget: int


def claim(shard: Shard, kind: Kind, terms: Terms, after: str = "") -> Claim | None:
    """Lease due jobs, a share for each tenant that has some, as its weight says, beginning after a tenant's name."""
    return _claimed(shard, "claim", kind, terms, after)


def claim_suspects(shard: Shard, kind: Kind, terms: Terms) -> Claim | None:
    """Lease jobs that a holder died with: the fewer the more often, in the end one alone."""
    return _claimed(shard, "claim_suspects", kind, terms, "")


def _claimed(shard: Shard, query: str, kind: Kind, terms: Terms, after: str) -> Claim | None:
    token = uuid4()
    params = {
        "token": token,
        "kind": kind.value,
        "holder": terms.holder,
        "lease_s": terms.lease_s,
        "limit": terms.limit,
        "bytes": terms.limit_bytes,
        "after": after,
        "weights": json.dumps(terms.weights),
    }
    try:
        rows = shard.write(_SQL[query], params, timeline=TIMELINE)
    except Exception:
        # If it was a claim after all, nobody would work on it until it expired.
        (terms.unseen or release_quietly)(shard, token)
        raise
    if not rows:
        return None
    claimed = sorted((Job(*row[:-1]) for row in rows), key=lambda job: job.number)
    return Claim(token, kind, claimed, rows[0][-1], _full(claimed, terms), query == "claim_suspects")


def _full(claimed: Sequence[Job], terms: Terms) -> bool:
    """Whether a claim took half as many jobs as it might, or as many bytes.

    It takes seldom all that it may, also of a large backlog: shares are whole numbers.
    """
    return 2 * len(claimed) >= terms.limit or sum(len(job.raw.encode()) for job in claimed) >= terms.limit_bytes


@dataclass(frozen=True, slots=True)
class Delay:
    """When jobs that were refused are tried again: the pauses double, without a counter.

    Attributes:
        at_least_s: the shortest pause; else as long again as the job has waited already.
        error: why, without content.
        longest_s: the longest pause.
    """

    at_least_s: float
    error: str
    longest_s: float = 60.0

    @property
    def params(self) -> dict[str, Any]:
        """As parameters of the statements that put jobs off."""
        return {"delay_s": self.at_least_s, "longest_s": self.longest_s, "error": self.error}


NOBODY = "*"
"""Stands for a tenant in jobs that are nobody's."""

NO_DELAY = Delay(0.0, "")
LATER = _SQL["later"].text
DELAYS = _SQL["delays"].text

Delays: TypeAlias = Delay | Mapping[int, Delay]
"""One delay for all jobs, or one for each by its number."""


def delay_params(delays: Delays) -> dict[str, Any]:
    """Delays as parameters of the statements that put jobs off."""
    if isinstance(delays, Delay):
        return {**delays.params, "late": [], "late_s": [], "late_longest_s": [], "late_errors": []}
    return {
        **NO_DELAY.params,
        "late": list(delays),
        "late_s": [delay.at_least_s for delay in delays.values()],
        "late_longest_s": [delay.longest_s for delay in delays.values()],
        "late_errors": [delay.error for delay in delays.values()],
    }


def settle(shard: Shard, token: UUID, done: Sequence[int], delays: Delays = NO_DELAY) -> bool:
    """End the jobs of a lease that are done and give the others back for later; False if the lease was lost."""
    params = {"token": token, "numbers": list(done), **delay_params(delays)}
    return bool(shard.write(_SQL["settle"], params, later=LATER, delays=DELAYS)[0][0])


def resume(shard: Shard, tenant: str | None, reason: str, after: int = -1) -> tuple[int, int | None]:
    """Make a slice of the jobs due now that were put off for a reason that begins like this, of a tenant or of all.

    Args:
        shard: where they are.
        tenant: whose; None: everybody's.
        reason: how it begins.
        after: the number where the slice before ended.

    Returns:
        How many there were, and the number where the slice ended; None if there are no more.
    """
    params = {"tenant": tenant, "reason": reason, "after": after, "limit": SLICE}
    count, last = shard.write(_SQL["resume"], params)[0]
    return count, last if count == SLICE else None


def idle_work(shard: Shard) -> list[Kind]:
    """The kinds that have due work and nobody on it."""
    return [Kind(kind) for (kind,) in shard.run(_SQL["idle_work"], {"kinds": [kind.value for kind in Kind]})]


def backlog(shard: Shard) -> list[Backlog]:
    """What is open, by kind."""
    return [Backlog(*row) for row in shard.run(_SQL["backlog"], {"over_budget": OVER_BUDGET})]


def open_texts(shard: Shard, tenant: str, texts: Sequence[tuple[UUID, str]]) -> int:
    """Open jobs for texts that belong to no agent, unless they are open already; how many were opened."""
    params = {"tenant": tenant, "ids": [id_ for id_, _ in texts], "contents": [text for _, text in texts]}
    return len(shard.write(_SQL["open_texts"], params))


def open_missing(shard: Shard, vectors: str, agents: Sequence[int] | None = None) -> int:
    """Open embed jobs for memories without a vector of a model, of some agents or of all; how many.

    It goes in slices, each a transaction, so that a large shard is no long statement.

    Raises:
        Unavailable: it takes too long for one call; asked again, it gets further.
    """
    until = monotonic() + LOOKING_S
    opened = 0
    for agent, last_agent in [(0, _LAST)] if agents is None else [(agent, agent) for agent in agents]:
        place = {"agent": agent, "number": -1}
        seen = SLICE
        while seen == SLICE:
            params = {**place, "last_agent": last_agent, "limit": SLICE}
            seen, more, *ended = shard.write(_SQL["open_missing"], params, vectors=vectors)[0]
            opened += more
            place = dict(zip(place, ended, strict=True))
            if monotonic() > until:
                raise Unavailable(f"not all memories of shard {shard.number} could be looked at in time: ask again")
    return opened


def open_optimize(shard: Shard, tenant: str, agent: int | None) -> UUID:
    """Open a job to optimize an agent, or the whole shard, unless one is open already; its id."""
    id_ = uuid5(_OPTIMIZE, f"{shard.number}:{agent}")
    shard.write(_SQL["open_optimize"], {"tenant": tenant, "agent": agent, "id": id_})
    return id_


def end_stalled_sessions(shard: Shard, lease_s: float) -> int:
    """End database sessions of the main path that hold a transaction open for longer than a lease; how many."""
    return int(shard.run(_SQL["stalled"], {"lease_s": lease_s, "unhurried": UNHURRIED})[0][0])
