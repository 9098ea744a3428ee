"""What the gateway's endpoints work with: made when the process starts, closed when it ends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from starlette.requests import HTTPConnection

from memlane.config.settings import Settings
from memlane.contract.health import Health
from memlane.contract.status import BrokerStatus, NodeStatus
from memlane.gateway.answers import Answers
from memlane.gateway.auth import Keys
from memlane.gateway.glance import Glance
from memlane.gateway.groups import Groups
from memlane.gateway.metrics import Metrics
from memlane.gateway.questions import Questions
from memlane.gateway.rating import Rating
from memlane.gateway.refreshing import Refreshing
from memlane.gateway.resuming import Resuming
from memlane.gateway.scraped import Scraped
from memlane.gateway.tally import Tally
from memlane.gateway.threads import NodeThreads
from memlane.gateway.waiters import Waiters
from memlane.tasks.lane import Lane


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything behind the endpoints."""

    settings: Settings
    lane: Lane
    threads: NodeThreads
    answers: Answers
    groups: Groups
    questions: Questions
    keys: Keys
    waiters: Waiters
    tally: Tally
    rating: Rating
    resuming: Resuming
    metrics: Metrics
    scraped: Scraped
    refreshing: Refreshing
    nodes: Glance[list[NodeStatus]]
    health: Glance[Health]
    broker: Callable[[], BrokerStatus]
    """Asks the broker how it is."""


def gateway_of(connection: HTTPConnection) -> Gateway:
    """The gateway that a request came to."""
    return cast(Gateway, connection.app.state.gateway)
