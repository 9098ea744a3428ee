"""Where things belong must never change by itself."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from memlane.storage.hashing import propose_node, shard_of, shard_of_text, text_hash


def test_shards_are_what_they_always_were() -> None:
    """Recorded from version 1 of the hash: a change here would lose every agent."""
    assert [shard_of("default", f"agent-{n}", 8) for n in range(8)] == [6, 2, 6, 6, 3, 4, 0, 3]
    assert shard_of_text("default", text_hash("tea"), 8) == 6


@given(st.text(), st.text(), st.integers(1, 256))
def test_every_agent_has_a_shard(tenant: str, agent: str, count: int) -> None:
    if any("\ud800" <= c <= "\udfff" for c in tenant + agent):
        return
    assert 0 <= shard_of(tenant, agent, count) < count


def test_agents_spread_evenly() -> None:
    counts = Counter(shard_of("default", f"agent-{n}", 8) for n in range(8000))
    assert min(counts.values()) > 850


def test_a_new_node_is_proposed_few_shards() -> None:
    before = {shard: propose_node(shard, ["a", "b", "c"]) for shard in range(256)}
    after = {shard: propose_node(shard, ["a", "b", "c", "d"]) for shard in range(256)}
    moved = [shard for shard in before if before[shard] != after[shard]]
    assert all(after[shard] == "d" for shard in moved)
    assert 30 < len(moved) < 100
