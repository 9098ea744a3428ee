"""The indexes of large agents: which there are, how they are doing, and what is known of those that have none."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from memlane.contract.upkeep import AgentIndex
from memlane.storage import progress, queries
from memlane.storage.cluster import Shard
from memlane.storage.nodes import Node

_SQL = queries.load("indexes")

_DUTY = "optimize"

ASKED_WITHIN_S = 7 * 86_400.0
"""Questions that are older do not count: nobody keeps them for longer by default."""

ASKED_MOST = 1000
"""More questions to one agent are not told apart."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How often an agent was asked lately, and when last."""

    times: int = 0
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """An agent that has an index, or has none since none was good enough.

    Attributes:
        agent: its number.
        tenant: whose it is.
        name: the tenant's name for it.
        memories: how many it has.
        upto: vectors up to this number are in the index; 0 without one.
        index_name: the index; missing without one.
        vectors: how many it was built of; missing where nobody counted.
        bytes: its size.
        m: neighbours of a vector in the graph.
        ef_construction: how many were looked at for them.
        ef_search: how much of it a recall looks at; missing: as the knob says.
        tail: vectors that were newer at the last look; missing before the first.
        asked: how often the agent was asked within a week before that; missing before the first.
        asked_at: when last, as the last look saw it.
        built_at: when the index was built.
        recall: recall@10 against exact search, as the canary found it last; missing before it asked this index.
        questions: how many questions it asked for that.
        ms: how long a look into the index took, the median.
        sung_at: when that was.
        rung: how much better than its size asks for the index has to be built.
        exact_until: until then none is built.
    """

    agent: int
    tenant: str
    name: str
    memories: int
    upto: int
    index_name: str | None
    vectors: int | None
    bytes: int
    m: int
    ef_construction: int
    ef_search: int | None
    tail: int | None
    asked: int | None
    asked_at: datetime | None
    built_at: datetime | None
    recall: float | None
    questions: int
    ms: float | None
    sung_at: datetime | None
    rung: int
    exact_until: datetime | None


@dataclass(frozen=True, slots=True)
class Outgrown:
    """An agent without an index that is large enough for one."""

    agent: int
    tenant: str
    memories: int


@dataclass(frozen=True, slots=True)
class Care:
    """How well an agent's index has to be built, beyond what its size asks for; exact: it is to have none for now."""

    rung: int = 0
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Sung:
    """What the canary found: recall@10 in the mean, how many questions it asked, and the median of their times."""

    recall: float
    questions: int
    ms: float


@dataclass(frozen=True, slots=True)
class Taken:
    """How many indexes a model has in a shard, and how many bytes these take, and those of other models."""

    indexes: int
    bytes: int
    others_bytes: int


@dataclass(frozen=True, slots=True)
class Told:
    """How the indexes of a shard are doing, as the duty saw them last.

    Attributes:
        indexes: how many there are.
        bytes: what they take.
        recall: the lowest recall@10 that the canary found; missing before it sang.
        low: how many have too low a recall.
    """

    indexes: int
    bytes: int
    recall: float | None
    low: int


def known(shard: Shard, model: str) -> list[Known]:
    """The agents of a shard that have an index for a model, or may have none for now, by number."""
    return [Known(*row) for row in shard.run(_SQL["known"], {"model": model})]


def shown(shard: Shard, model: str) -> list[AgentIndex]:
    """The same, as operators see them."""
    return [_shown(shard.number, one) for one in known(shard, model)]


def _shown(shard: int, one: Known) -> AgentIndex:
    return AgentIndex(
        one.tenant,
        one.name,
        shard,
        one.memories,
        one.bytes,
        one.m,
        one.ef_construction,
        one.questions,
        one.vectors,
        one.tail,
        one.ef_search,
        one.recall,
        one.ms,
        one.asked,
        one.asked_at,
        one.built_at,
        one.sung_at,
        one.exact_until,
    )


def outgrown(shard: Shard, model: str, promote_at: int) -> list[Outgrown]:
    """The agents that have at least so many memories, no index for a model, and may have one; the largest first."""
    return [Outgrown(*row) for row in shard.run(_SQL["outgrown"], {"model": model, "promote_at": promote_at})]


def asked(shard: Shard, agents: Sequence[int]) -> Mapping[int, Asked]:
    """How often agents were asked within a week, of the last 1,000 questions to each; who was not is left out."""
    params = {"agents": list(agents), "within_s": ASKED_WITHIN_S, "most": ASKED_MOST}
    return {agent: Asked(times, at) for agent, times, at in shard.run(_SQL["asked"], params)}


def note(shard: Shard, agent: int, model: str, tail: int, lately: Asked) -> None:
    """Keep what a look at an agent's index saw."""
    params = {"agent": agent, "model": model, "tail": tail, "asked": lately.times, "asked_at": lately.at}
    shard.run(_SQL["note"], params)


def care(shard: Shard, agent: int, model: str) -> Care:
    """What the canary has found to be needed for an agent."""
    rows = shard.run(_SQL["care"], {"agent": agent, "model": model})
    return Care(*rows[0]) if rows else Care()


def questions(shard: Shard, agent: int, count: int) -> list[bytes]:
    """The SHA-256 of questions that an agent was asked last, each once."""
    return [bytes(hash_) for (hash_,) in shard.run(_SQL["questions"], {"agent": agent, "count": count})]


def keep(shard: Shard, agent: int, model: str, sung: Sung) -> None:
    """Keep what the canary found."""
    found = {"recall": sung.recall, "questions": sung.questions, "ms": sung.ms}
    shard.run(_SQL["sung"], {"agent": agent, "model": model, **found})


def look_further(shard: Shard, one: Known, model: str, ef_search: int) -> None:
    """From now on recall looks at more of an agent's index, until it is built again."""
    params = {"agent": one.agent, "model": model, "index_name": one.index_name, "ef_search": ef_search}
    shard.run(_SQL["look_further"], params)


def build_better(shard: Shard, agent: int, model: str, rung: int) -> None:
    """An agent's index is to be built again, better by so many rungs than its size asks for."""
    shard.run(_SQL["build_better"], {"agent": agent, "model": model, "rung": rung})


def go_exact(shard: Shard, agent: int, model: str, seconds: float) -> None:
    """No index of an agent is good enough: for so many seconds it is to have none."""
    shard.run(_SQL["go_exact"], {"agent": agent, "model": model, "seconds": seconds})


def demote(shard: Shard, agent: int, model: str) -> str | None:
    """From now on an agent is searched exactly; the index that nobody needs any more."""
    rows = shard.run(_SQL["demote"], {"agent": agent, "model": model})
    return rows[0][0] if rows else None


def taken(shard: Shard, model: str) -> Taken:
    """What the indexes of a shard take."""
    return Taken(*shard.run(_SQL["taken"], {"model": model})[0])


def tell(control: Node, shard: int, found: Told) -> None:
    """Keep in control how the indexes of a shard are doing, for looks at the whole and for /metrics."""
    progress.keep(control, _DUTY, str(shard), asdict(found))


def told(control: Node) -> Mapping[int, Told]:
    """How the indexes are doing, by shard."""
    return {int(shard): Told(**found) for shard, found in progress.of(control, _DUTY).items()}
