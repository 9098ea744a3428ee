"""What small requests are answered with: for most the answer is a value of another file of the contract."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Jobs:
    """How many jobs a request made."""

    jobs: int


@dataclass(frozen=True, slots=True)
class Job:
    """The job that a request made; `memlane status` counts it until it is done."""

    job: str


@dataclass(frozen=True, slots=True)
class AgentForgotten:
    """An agent whose memories are out of sight."""

    agent: str
    state: str


@dataclass(frozen=True, slots=True)
class TenantCreated:
    """A tenant; `created` is false if it was there before."""

    tenant: str
    created: bool


@dataclass(frozen=True, slots=True)
class KeyRevoked:
    """A key that is worthless now, by the part between the underscores."""

    prefix: str
    revoked: bool


@dataclass(frozen=True, slots=True)
class Alive:
    """The process answers."""

    status: str


@dataclass(frozen=True, slots=True)
class Ready:
    """Whether requests would be served, and the nodes that do not answer."""

    ready: bool
    nodes_down: tuple[str, ...]
