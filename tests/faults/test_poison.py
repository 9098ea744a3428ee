"""A memory that kills whoever works on it harms itself alone, and waits for somebody's decision."""

from collections.abc import Callable

import pytest

from tests.local import LocalProcess, WorkerProcess

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

StartWorker = Callable[..., WorkerProcess]

PATIENCE_S = 120.0


@pytest.fixture(params=["redis"])
def broker(request: pytest.FixtureRequest, redis_broker: LocalProcess) -> LocalProcess:
    """One kind is enough: what kills a process is no affair of the broker's."""
    return redis_broker
