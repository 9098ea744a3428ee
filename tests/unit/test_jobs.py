"""Decisions about jobs that need no database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlane.storage.jobs import Done
from memlane.storage.leases import parking_deaths
from memlane.storage.models import table_name
from memlane.tasks.provider import requests


@pytest.mark.parametrize(("claim_size", "deaths"), [(1, 3), (2, 4), (3, 5), (256, 11)])
def test_a_job_is_parked_after_three_deaths_alone(claim_size: int, deaths: int) -> None:
    assert parking_deaths(claim_size, 3) == deaths
    alone = deaths - 3
    assert max(1, claim_size >> alone) == 1
    if alone:
        assert claim_size >> (alone - 1) >= 1


def test_what_was_done_is_said_in_few_words() -> None:
    assert str(Done(stored=3, searchable=2)) == "stored 3, searchable 2"
    assert str(Done()) == "nothing"
    both = Done(stored=3, searchable=2) + Done(stored=1, refused=True) + Done(failed=2)
    assert both == Done(stored=4, searchable=2, refused=True, failed=2)
    assert str(both) == "stored 4, searchable 2, refused, failed 2"


@given(st.text(min_size=1, max_size=80))
def test_a_models_table_is_a_plain_identifier(model: str) -> None:
    name = table_name(model)
    assert name.isascii()
    assert name.replace("_", "").isalnum()
    assert len(name) <= 63


def test_models_that_differ_in_signs_have_tables_of_their_own() -> None:
    assert table_name("text-embedding-3") != table_name("text_embedding_3")
    assert table_name("hash") == "vectors_hash"


@given(st.lists(st.text(max_size=20)), st.integers(1, 5), st.integers(1, 40))
def test_requests_keep_both_limits(texts: list[str], most: int, chars: int) -> None:
    cut = [[texts[place] for place in places] for places in requests(texts, most, chars)]
    assert [text for batch in cut for text in batch] == texts
    for batch in cut:
        assert 0 < len(batch) <= most
        assert len(batch) == 1 or sum(map(len, batch)) <= chars
