"""Recall: by meaning and by words, within one agent, and honest about what is missing."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from memlane.config.settings import Settings
from memlane.contract import Recalled, RecallRequest
from memlane.contract.parsing import parse
from memlane.errors import NodeDown, ProviderRefused
from memlane.storage import agents, recall
from memlane.storage.cluster import Shard
from memlane.storage.recall import Search
from memlane.tasks import forget
from memlane.tasks.embedders import Embedding
from memlane.tasks.embedders.hash import HashEmbedder
from memlane.tasks.lane import Lane
from tests.support import accepted, asks, drain_all, item, recalled, remembered


def ask(lane: Lane, query: str, agent: str = "ada", tenant: str = "acme", **more: object) -> Recalled:
    return recalled(lane, tenant, parse(RecallRequest, {"agent": agent, "query": query, **more}))


def contents(recalled: Recalled) -> list[str]:
    return [hit.memory.content for hit in recalled]


def test_rare_words_count_for_more(lane: Lane) -> None:
    remembered(lane, *(item(f"Caroline said something about number {n}") for n in range(30)))
    remembered(lane, item("the marathon was long"))
    hits = ask(lane, "did Caroline say something about a marathon?", limit=40).hits
    assert max(hits, key=lambda hit: hit.parts.text or 0).memory.content == "the marathon was long"


def test_words_are_stemmed_and_stop_words_ignored(lane: Lane) -> None:
    remembered(lane, item("she was researching adoption agencies"), item("the of and"))
    hits = ask(lane, "what did she research about an agency?").hits
    assert hits[0].memory.content == "she was researching adoption agencies"
    assert hits[0].parts.text is not None


def test_the_speaker_is_searched_too(lane: Lane) -> None:
    remembered(lane, item("I run", speaker="Melanie"), item("I run", speaker="Caroline"))
    hit = ask(lane, "Melanie", limit=1).hits[0]
    assert (hit.memory.speaker, hit.memory.content) == ("Melanie", "I run")


def test_scores_say_what_they_are_made_of(lane: Lane) -> None:
    remembered(lane, *(item(f"tea {n}", thread="t") for n in range(5)), item("a boat on the lake"))
    hits = ask(lane, "tea 3").hits
    assert all(a.score >= b.score for a, b in pairwise(hits))
    best = hits[0]
    assert best.memory.content == "tea 3"
    assert best.parts.vector is not None
    assert 0.5 < best.parts.vector <= 1
    assert best.parts.context != 0


def test_tenants_and_agents_see_only_their_own(lane: Lane) -> None:
    """The same agent name, the same words, three owners."""
    remembered(lane, item("acme's tea"))
    remembered(lane, item("rival's tea"), tenant="rival")
    remembered(lane, item("bob's tea", agent="bob"))
    assert contents(ask(lane, "tea")) == ["acme's tea"]
    assert contents(ask(lane, "tea", tenant="rival")) == ["rival's tea"]
    assert contents(ask(lane, "tea", agent="bob")) == ["bob's tea"]
    assert contents(ask(lane, "tea", agent="bob", tenant="rival")) == []


def test_agents_whose_numbers_share_digits_do_not_mix(lane: Lane, shard: Shard) -> None:
    """The agent is a word of its own among a memory's words: @1 must not match @11."""
    names = [f"agent-{n}" for n in range(200) if lane.cluster.shard_of("acme", f"agent-{n}") == shard.number][:12]
    remembered(lane, *(item(f"tea of {name}", agent=name) for name in names))
    for name in names:
        assert contents(ask(lane, "tea", agent=name)) == [f"tea of {name}"]


def test_a_memory_cannot_claim_to_be_of_another_agent(lane: Lane) -> None:
    remembered(lane, item("@2 '@2' tea & @1", agent="ada"), item("tea", agent="bob"))
    assert contents(ask(lane, "@1 @2 tea", agent="bob")) == ["tea"]


def test_what_is_stored_without_a_vector_is_found_by_its_words(lane: Lane) -> None:
    class Refusing(HashEmbedder):
        def embed(self, texts: Sequence[str]) -> Embedding:
            raise ProviderRefused(f"the provider is down for all {len(texts)}", 60)

    asks(lane, Refusing(lane.model))
    remembered(lane, item("a marathon"), item("a boat"))
    recalled = ask(lane, "marathon")
    assert contents(recalled) == ["a marathon"]
    assert recalled.degraded
    assert "words only" in recalled.degraded[0]
    asks(lane, HashEmbedder(lane.model))
    recalled = ask(lane, "marathon")
    assert contents(recalled) == ["a marathon"]
    assert recalled.hits[0].parts.vector is None


def test_an_outage_is_not_an_empty_memory(lane: Lane) -> None:
    remembered(lane, item())
    node = lane.cluster.shard(lane.cluster.shard_of("acme", "ada")).node
    node.close()
    with pytest.raises(NodeDown):
        ask(lane, "tea")


def test_what_is_forgotten_is_out_of_sight_before_its_rows_are_gone(lane: Lane) -> None:
    remembered(lane, *(item(f"tea {n}") for n in range(5)))
    forget.forget_agent(lane, "acme", "ada")
    assert contents(ask(lane, "tea")) == []
    accepted(lane, item("new tea"))
    drain_all(lane)
    assert contents(ask(lane, "tea")) == ["new tea"]


@pytest.mark.parametrize(
    "query", ["'; DROP TABLE x; --", "a & | ! <-> (", "\\", "''", "🫖", "%s %(x)s {shard}", "the of"]
)
def test_queries_of_any_kind(lane: Lane, query: str) -> None:
    remembered(lane, item("tea"))
    assert len(ask(lane, query)) == 1


def test_a_long_query(lane: Lane) -> None:
    remembered(lane, item("tea"))
    assert len(ask(lane, " ".join(f"word{n}" for n in range(1000)))) == 1


def test_exact_by_meaning(lane: Lane, shard: Shard) -> None:
    """The nearest of an agent are what brute force finds."""
    texts = [f"topic {n % 17} and word {n * 7 % 31} of {n}" for n in range(300)]
    remembered(lane, *(item(text) for text in texts))
    embedder = HashEmbedder(lane.model)
    query = "topic 3 and word 11"
    vector = embedder.embed([query]).vectors[0]
    expected = embedder.embed(texts).vectors @ vector
    agent = agents.find(shard, "acme", "ada", lane.model.name)
    assert agent is not None
    search = Search(
        query, vector, parse(RecallRequest, {"agent": "ada", "query": query}).filters, lane.table, "english", 20
    )
    found = [c.similarity for c in recall.candidates(shard, agent, search) if c.similarity is not None]
    best = sorted(found, reverse=True)[:20]
    assert np.allclose(best, sorted(expected, reverse=True)[:20], atol=2e-3)


def test_text_of_another_language_is_a_setting(lane: Lane, settings: Settings) -> None:
    lane.settings = settings.model_copy(update={"text_search": "german"})
    remembered(lane, item("Die Katzen schliefen"))
    hit = ask(lane, "Katze").hits[0]
    assert hit.parts.text is not None


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1969-12-31T23:59:59Z"])
def test_times_at_the_edges(lane: Lane, when: str) -> None:
    remembered(lane, item("tea", occurred_at=when))
    (hit,) = ask(lane, "tea")
    assert hit.memory.occurred_at.isoformat().replace("+00:00", "Z") == when
