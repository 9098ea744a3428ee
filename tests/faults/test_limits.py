"""The limits of our sessions: nobody waits for a lock for ever, and nobody who stalls keeps one."""

from time import monotonic

import pytest

from memlane.config.settings import Settings
from memlane.errors import Unavailable
from memlane.storage import forget
from memlane.storage.cluster import Shard
from memlane.tasks.lane import Lane
from tests.support import MakeSettings, item, remembered, sql

pytestmark = pytest.mark.faults

STATEMENT_S = 4.0


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """Statements may take some seconds, and so waits for locks half as long."""
    return make_settings(statement_timeout_s=STATEMENT_S)


def test_a_lock_is_waited_for_less_long_than_a_statement_may_take(lane: Lane, settings: Settings, shard: Shard) -> None:
    """So that who waits behind a stalled holder is told in time to try again."""
    (receipt,) = remembered(lane, item())
    agent = lane.numbers.of(shard, "acme", ["ada"], register=False)["ada"]
    with sql(settings, shard.node.name) as holder, holder.transaction():
        holder.execute(f"SELECT FROM {shard.schema}.agents FOR UPDATE".encode())
        begun = monotonic()
        with pytest.raises(Unavailable, match="55P03"):
            forget.forget_memory(shard, "acme", agent, receipt.id)
        assert monotonic() - begun < STATEMENT_S * 0.9


def test_a_session_that_stalls_in_a_transaction_loses_its_locks(lane: Lane, settings: Settings, shard: Shard) -> None:
    """Also where no sweep comes by. Whoever stalled may try again: nothing was done."""
    remembered(lane, item())
    with pytest.raises(Unavailable, match="25P03"):
        stall(settings, shard)


def stall(settings: Settings, shard: Shard) -> None:
    """Idle in a transaction until somebody else has its lock, then go on."""
    with shard.node.connection() as stalled, stalled.transaction():
        stalled.execute(f"SELECT FROM {shard.schema}.agents FOR UPDATE".encode())
        with sql(settings, shard.node.name) as other:
            other.execute(f"SET lock_timeout = '{3 * STATEMENT_S:.0f}s'".encode())
            other.execute(f"SELECT FROM {shard.schema}.agents FOR UPDATE".encode())
        stalled.execute("SELECT 1")
