"""What the contract lets in, and how it names what it does not."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlane.contract import MemoryItem, RecallRequest, State, key_id, limits, wire
from memlane.contract.parsing import parse, parse_items
from memlane.contract.receipt import Receipt
from memlane.errors import InvalidInput

GOOD: dict[str, Any] = {"agent": "ada", "content": "tea"}

BAD = [
    ({"content": ""}, "content"),
    ({"content": "  \n"}, "content"),
    ({"content": "x" * (limits.CONTENT_BYTES + 1)}, "content"),
    ({"content": "é" * (limits.CONTENT_BYTES // 2 + 1)}, "content"),
    ({"content": "a\x00b"}, "content"),
    ({"content": "\ud800"}, "content"),
    ({"content": 7}, "content"),
    ({"importance": 1.1}, "importance"),
    ({"importance": -0.1}, "importance"),
    ({"importance": float("nan")}, "importance"),
    ({"importance": "0.5"}, "importance"),
    ({"importance": True}, "importance"),
    ({"tags": ["t"] * (limits.TAGS + 1)}, "tags"),
    ({"tags": ["x" * (limits.TAG_CHARS + 1)]}, "tags.0"),
    ({"tags": [""]}, "tags.0"),
    ({"metadata": {"x": "y" * limits.METADATA_BYTES}}, "metadata"),
    ({"metadata": {"x": float("inf")}}, "metadata"),
    ({"metadata": {"x": [1e300] * 100}}, "metadata"),
    ({"metadata": {"x": ["\x00"]}}, "metadata"),
    ({"metadata": {"\ud800": 1}}, "metadata"),
    ({"metadata": [1]}, "metadata"),
    ({"agent": "a" * (limits.NAME_CHARS + 1)}, "agent"),
    ({"agent": ""}, "agent"),
    ({"agent": "ada\n"}, "agent"),
    ({"agent": ".."}, "agent"),
    ({"thread": "a\x7fb"}, "thread"),
    ({"metadata": {"x": json.loads("[" * 40 + "]" * 40)}}, "metadata"),
    ({"metadata": json.loads('{"a":' * 900 + "1" + "}" * 900)}, "metadata"),
    ({"key": "k" * (limits.NAME_CHARS + 1)}, "key"),
    ({"thread": "t" * (limits.NAME_CHARS + 1)}, "thread"),
    ({"id": "not-an-id"}, "id"),
    ({"id": "018f0000-0000-7000-8000-000000000000", "key": "k"}, "id"),
    ({"occurred_at": "yesterday"}, "occurred_at"),
    ({"occurred_at": "0001-01-01T00:00:00+10:00"}, "occurred_at"),
    ({"surprise": 1}, "surprise"),
]


@pytest.mark.parametrize(("fields", "named"), BAD)
def test_bad_input_names_the_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(MemoryItem, {**GOOD, **fields})
    assert [error.field for error in caught.value.fields] == [named]


def test_errors_do_not_quote_content() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(MemoryItem, {**GOOD, "content": "secret-canary" * 4000, "kind": 3})
    assert "secret-canary" not in str(caught.value)


def test_a_bad_item_does_not_spoil_the_others() -> None:
    parsed = parse_items([GOOD, {**GOOD, "importance": 2}, "no object", {**GOOD, "content": "x"}])
    assert list(parsed.places) == [0, 3]
    assert [(error.index, error.field) for error in parsed.errors] == [(1, "importance"), (2, "body")]


def test_what_is_not_an_object_is_named() -> None:
    with pytest.raises(InvalidInput):
        parse(MemoryItem, [1, 2])


def test_metadata_nested_too_deeply_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"d": deep}
    with pytest.raises(InvalidInput):
        parse(MemoryItem, {**GOOD, "metadata": deep})


def test_times_are_utc() -> None:
    item = parse(MemoryItem, {**GOOD, "occurred_at": "2025-05-08T13:56:00+02:00"})
    assert item.occurred_at == datetime(2025, 5, 8, 11, 56, tzinfo=UTC)
    assert parse(MemoryItem, {**GOOD, "occurred_at": "2025-05-08T13:56:00"}).occurred_at == datetime(
        2025, 5, 8, 13, 56, tzinfo=UTC
    )


def test_text_has_the_speaker_in_front() -> None:
    assert parse(MemoryItem, {**GOOD, "speaker": "Ben"}).text == "Ben: tea"
    assert parse(MemoryItem, GOOD).text == "tea"


def test_a_key_makes_the_same_id_for_ever() -> None:
    assert key_id("acme", "ada", "k") == UUID("9433bf79-4403-5157-b613-e6c273e60e50")
    assert parse(MemoryItem, {**GOOD, "key": "k"}).identity("acme") == key_id("acme", "ada", "k")
    assert key_id("acme", "ada", "k") != key_id("other", "ada", "k") != key_id("other", "bob", "k")


def test_without_a_key_every_identity_is_new() -> None:
    item = parse(MemoryItem, GOOD)
    assert item.identity("acme") != item.identity("acme")
    assert item.identity("acme").version == 7


def _parsed(raw: dict[str, Any]) -> tuple[tuple[MemoryItem | None], list[str]]:
    """The item, or else the fields that are wrong."""
    parsed = parse_items([raw])
    return (parsed.items[0] if parsed.items else None,), [error.field for error in parsed.errors]


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(content=st.text(), metadata=st.dictionaries(st.text(), JSON_VALUES, max_size=3))
def test_anything_is_taken_in_whole_or_refused_with_a_name(content: str, metadata: dict[str, Any]) -> None:
    (item,), errors = _parsed({"agent": "ada", "content": content, "metadata": metadata})
    if item is None:
        assert set(errors) <= {"content", "metadata"}
        return
    assert item.content == content
    assert json.loads(json.dumps(item.metadata)) == json.loads(json.dumps(metadata))
    assert "\x00" not in json.dumps(item.metadata, ensure_ascii=False)
    item.content.encode()


def test_recall_limits() -> None:
    assert parse(RecallRequest, {"agent": "ada", "query": "tea"}).limit == 10
    for bad in ({"limit": 0}, {"limit": 101}, {"limit": True}, {"query": " "}, {"query": "q" * 9000}):
        with pytest.raises(InvalidInput):
            parse(RecallRequest, {"agent": "ada", "query": "tea", **bad})


def test_filters_alone() -> None:
    request = parse(RecallRequest, {"agent": "ada", "query": "tea", "kinds": ["fact"], "min_importance": 0.5})
    assert request.filters.any
    assert request.filters.kinds == ("fact",)
    assert not parse(RecallRequest, {"agent": "ada", "query": "tea"}).filters.any


def test_wire_round_trip() -> None:
    receipt = Receipt(UUID(int=1), "ada", State.DUPLICATE, first=State.STORED)
    data = wire.dump(receipt)
    assert b"error" not in data
    assert wire.load(Receipt, data) == receipt


@pytest.mark.parametrize("state", list(State))
def test_a_state_reaches_itself_only_if_it_is_progress(state: State) -> None:
    for goal in (State.STORED, State.SEARCHABLE):
        expected = {State.STORED: goal is State.STORED, State.SEARCHABLE: True}.get(state, False)
        assert state.reached(goal) is expected
