"""What operators see: the state of nodes, shards and queues, tenants and their keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from memlane.contract.health import HealthSummary


class Role(StrEnum):
    """What a server of a node does."""

    PRIMARY = "primary"
    """Takes what is written."""
    STANDBY = "standby"
    """Follows the primary, and takes its place when it is promoted."""
    DOWN = "down"
    """It does not answer."""


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """A server of a node.

    Attributes:
        address: host and port.
        role: what it does.
        lag_bytes: how much of the log it has not got yet.
        replay_lag_bytes: how much of the log those who read there do not see yet.
    """

    address: str
    role: Role
    lag_bytes: int = 0
    replay_lag_bytes: int = 0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A Postgres node: whether it answers, and what it promises to keep.

    Attributes:
        name: as in the shard map.
        up: whether its primary answers.
        settings: what the primary promises to keep.
        members: its servers.
    """

    name: str
    up: bool
    settings: Mapping[str, str]
    members: Sequence[MemberStatus] = ()

    @property
    def alarm(self) -> str | None:
        """What is wrong with its replication, or None."""
        standbys = [member for member in self.members if member.role is not Role.PRIMARY]
        if len(self.members) - len(standbys) > 1:
            return "TWO PRIMARIES: stop the one that is not meant, at once"
        if not self.up or not standbys:
            return None
        if not self.settings.get("synchronous_standby_names"):
            return "NOT REPLICATED: what is written is confirmed by no standby"
        down = [member.address for member in standbys if member.role is Role.DOWN]
        return f"standbys down: {', '.join(down)}" if down else None


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """A shard: where it lives, and what it holds; the counts are 0 while its node is down."""

    shard: int
    node: str
    up: bool
    epoch: int = 0
    agents: int = 0
    memories: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Jobs of a kind, over all shards.

    Attributes:
        kind: what they ask for.
        open: how many wait or are worked on.
        leased: how many of these are worked on.
        parked: how many are set aside.
        oldest_s: how long the oldest that is due has waited, in seconds.
        over_budget: how many of the open ones wait for a budget.
    """

    kind: str
    open: int
    leased: int
    parked: int
    oldest_s: float
    over_budget: int = 0


@dataclass(frozen=True, slots=True)
class StrayStatus:
    """Producers' messages that were kept for the same reason."""

    task: str
    reason: str
    count: int
    since: datetime


@dataclass(frozen=True, slots=True)
class DutyStatus:
    """The last run of a duty of beat.

    Attributes:
        name: the duty.
        slot: the beginning of the time that it was due in.
        holder: the process that runs it, or did.
        claimed_at: when it began.
        done_at: when it ended; missing while it runs, or when it broke off.
        outcome: how it ended: done, failed, or stopped at the end of its slice.
        detail: what it came to, or why it failed.
        broken_off: its slice is over, and nothing was heard of it: it hangs, or its process was killed.
    """

    name: str
    slot: datetime
    holder: str
    claimed_at: datetime
    done_at: datetime | None = None
    outcome: str | None = None
    detail: str | None = None
    broken_off: bool = False


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """The broker: whether it answers, and for Redis whether it keeps what it is given."""

    kind: str
    up: bool
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Status:
    """The whole system at one moment."""

    version: str
    model: str
    nodes: Sequence[NodeStatus]
    shards: Sequence[ShardStatus]
    jobs: Sequence[JobStatus]
    strays: Sequence[StrayStatus]
    duties: Sequence[DutyStatus]
    broker: BrokerStatus
    health: HealthSummary | None = None
    """How the whole does; missing in the answer of an older version."""


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant may do; where nothing is set, the settings of gateways and workers hold.

    Attributes:
        weight: its share of each claim, beside the others'; 1 unless set.
        rate: items that it may hand over in a minute.
        agent_rate: the same, for each of its agents.
        open_jobs: how many of its jobs may be open at once.
    """

    weight: int | None = None
    rate: int | None = None
    agent_rate: int | None = None
    open_jobs: int | None = None


@dataclass(frozen=True, slots=True)
class TenantStatus:
    """A tenant, and the limits that were set for it."""

    tenant: str
    created_at: datetime
    limits: TenantLimits = TenantLimits()


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """An API key without its secret; `tenant` is missing for an admin key, `last_used_at` is right to the minute."""

    prefix: str
    label: str
    created_at: datetime
    tenant: str | None = None
    revoked_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; it is shown this once."""

    key: str


@dataclass(frozen=True, slots=True)
class RotatedKey:
    """A key that takes another's place; it is shown this once. The other one is good for so many seconds yet."""

    key: str
    replaces: str
    good_for_s: float
