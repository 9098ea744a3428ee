"""A recall of all of a tenant's agents: of nobody else's, and honest about what was left out."""

from datetime import UTC, datetime, timedelta

from memlane import Client
from memlane.config.settings import Settings
from memlane.contract import Recalled
from memlane.storage import tenants
from memlane.tasks import forget
from memlane.tasks.lane import Lane
from tests.contract.conftest import serving
from tests.support import count_rows, eventually, item, remembered

AGENTS = [f"a{n}" for n in range(12)]
"""They live on all shards."""


def said(recalled: Recalled) -> set[str]:
    return {hit.memory.content for hit in recalled}


def test_of_one_tenant_alone(lane: Lane, settings: Settings, tenant_key: str) -> None:
    """The same names, the same words; what is forgotten, expired or superseded is not there either."""
    (first, *_) = remembered(lane, *(item(f"tea of {agent}", agent) for agent in AGENTS))
    remembered(lane, *(item(f"rival's tea of {agent}", agent) for agent in (*AGENTS, "theirs")), tenant="rival")
    remembered(
        lane,
        item("newer tea", "a0", supersedes=first.id),
        item("tea that is over", "a1", expires_at=datetime.now(UTC) - timedelta(seconds=1)),
    )
    forget.forget_agent(lane, "acme", "a2")
    tenants.create_tenant(lane.cluster.control, "rival")
    rival = tenants.create_key(lane.cluster.control, "rival")
    with serving(settings) as url, Client(url, tenant_key) as client, Client(url, rival) as other:
        found = client.recall_all_agents("tea", limit=100)
        assert said(found) == {"newer tea", *(f"tea of {agent}" for agent in AGENTS if agent not in ("a0", "a2"))}
        assert found.degraded == ()
        theirs = {f"rival's tea of {agent}" for agent in (*AGENTS, "theirs")}
        assert said(other.recall_all_agents("tea", limit=100)) == theirs
        eventually(lambda: count_rows(settings, lane.cluster, "memory_stats") == len(said(found)) + len(theirs))
    assert count_rows(settings, lane.cluster, "queries") == 0, "it was asked of no agent"


def test_how_many_were_left_out_is_said(lane: Lane, settings: Settings, tenant_key: str) -> None:
    """Of each shard the newest are asked, until they have as many memories as the setting says."""
    for agent in AGENTS:
        remembered(lane, item(f"tea of {agent}", agent), item(f"more tea of {agent}", agent))
    homes = {lane.cluster.shard_of("acme", agent): agent for agent in AGENTS}
    few = settings.model_copy(update={"recall_all_memories": 2})
    with serving(few) as url, Client(url, tenant_key) as client:
        found = client.recall_all_agents("tea", limit=100)
    assert {hit.memory.agent for hit in found} == set(homes.values())
    (note,) = found.degraded
    assert f"the {len(AGENTS) - len(homes)} that came first" in note


def test_large_agents_are_asked_as_well(lane: Lane, settings: Settings, tenant_key: str) -> None:
    """Those that are not small enough to be read together are asked one by one."""
    remembered(
        lane, *(item(f"tea {n} of {agent}", agent) for agent in AGENTS[:4] for n in range(4 if agent == "a1" else 1))
    )
    large = settings.model_copy(update={"tiers_from": 3})
    with serving(large) as url, Client(url, tenant_key) as client:
        assert len(client.recall_all_agents("tea", limit=100)) == 7
        assert len(client.recall(AGENTS, "tea", limit=100)) == 7
