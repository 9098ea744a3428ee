"""How well recall finds what answers a question: the conversation in examples/, and LoCoMo where there is a copy."""

import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from memlane.cli.evaluate import score
from memlane.config.settings import Settings
from memlane.contract import RecallRequest
from memlane.contract.parsing import parse
from memlane.files import read_memories, read_questions
from memlane.storage.migrator import migrate
from memlane.tasks.embedders import model_of
from memlane.tasks.lane import Lane
from tests.support import MakeSettings, recalled, remembered

LOCOMO = os.environ.get("MEMLANE_LOCOMO", "")


@pytest.fixture
def minilm(make_settings: MakeSettings, make_lane: Callable[[Settings], Lane], has_weights: bool) -> Lane:
    """A lane with the offline model."""
    if not has_weights:
        pytest.skip("the weights of minilm are not installed: make setup")
    settings = make_settings(embedder="minilm", minilm_threads=2)
    migrate(settings, model_of(settings))
    return make_lane(settings)


def recall_at_10(lane: Lane, path: Path) -> float:
    remembered(lane, *(line.item for line in read_memories(path) if line.item is not None))
    ranks = []
    for question in read_questions(path):
        request = parse(RecallRequest, {"agent": question.agent, "query": question.text, "limit": 10})
        found = recalled(lane, "acme", request)
        ranks.append((question, [rank for rank, hit in enumerate(found, 1) if hit.memory.key in question.evidence]))
    return score(None, ranks).recall_at_10


def test_our_own_conversation(minilm: Lane) -> None:
    assert recall_at_10(minilm, Path(str(files("memlane.examples") / "conversation.json"))) >= 0.72


@pytest.mark.skipif(not Path(LOCOMO).is_file(), reason="MEMLANE_LOCOMO names no copy of LoCoMo")
def test_locomo(minilm: Lane) -> None:
    assert recall_at_10(minilm, Path(LOCOMO)) >= 0.70
