"""Files of memories: both forms, and what is wrong with a line."""

import json
import os
from pathlib import Path
from threading import Thread

import pytest

from memlane.errors import InvalidInput
from memlane.files import read_memories, read_questions

SAMPLE = {
    "sample_id": "pair",
    "conversation": {
        "speaker_a": "Ada",
        "session_2_date_time": "7:05 am on 9 March, 2025",
        "session_2": [{"speaker": "Ben", "dia_id": "D2:1", "text": "later"}],
        "session_10": [{"speaker": "Ben", "dia_id": "D10:1", "text": "last"}],
        "session_1_date_time": "1:56 pm on 8 March, 2025",
        "session_1": [{"speaker": "Ada", "dia_id": "D1:1", "text": "look", "blip_caption": "a photo of a cat"}],
    },
    "qa": [
        {"question": "What?", "answer": "a cat", "evidence": ["D1:1; D2:1"], "category": 1},
        {"question": "Trap?", "answer": "no", "evidence": ["D1:1"], "category": 5},
        {"question": "Nowhere?", "answer": "no", "evidence": [], "category": 4},
    ],
}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "file"
    path.write_text(text)
    return path


def test_json_lines_with_bad_ones(tmp_path: Path) -> None:
    path = write(tmp_path, '{"agent": "a", "content": "one"}\n\n{nonsense\n{"agent": "a"}\n[]\n')
    lines = list(read_memories(path))
    assert [(line.number, line.item is not None) for line in lines] == [(1, True), (3, False), (4, False), (5, False)]
    assert "not JSON" in str(lines[1].error)
    assert "content" in str(lines[2].error)


def test_a_conversation_becomes_an_agent_a_session_a_thread(tmp_path: Path) -> None:
    items = [line.item for line in read_memories(write(tmp_path, json.dumps([SAMPLE])))]
    assert [item.key for item in items if item] == ["D1:1", "D2:1", "D10:1"]
    first = items[0]
    assert first is not None
    assert (first.agent, first.thread, first.speaker, first.kind) == ("pair", "session_1", "Ada", "turn")
    assert first.content == "look [shares a photo of a cat]"
    assert first.occurred_at is not None
    assert first.occurred_at.isoformat() == "2025-03-08T13:56:00+00:00"


def test_only_questions_with_an_answer_are_asked(tmp_path: Path) -> None:
    (question,) = read_questions(write(tmp_path, json.dumps([SAMPLE])))
    assert question.evidence == {"D1:1", "D2:1"}


@pytest.mark.parametrize("text", ["[1, 2]", "[", '[{"a": 1}]'])
def test_neither_form(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="file"):
        list(read_memories(write(tmp_path, text)))


@pytest.mark.parametrize(
    "sample",
    [
        {"conversation": 5},
        {"conversation": {"session_1": 5}},
        {"conversation": {"session_1": [{"speaker": "Ada", "dia_id": "D1:1"}]}},
        {"conversation": {"session_1_date_time": 5, "session_1": []}},
    ],
)
def test_what_only_looks_like_a_conversation(tmp_path: Path, sample: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="LoCoMo"):
        list(read_memories(write(tmp_path, json.dumps([sample]))))


@pytest.mark.parametrize("qa", [{"question": "?"}, {"question": "?", "category": 1, "evidence": [5]}])
def test_a_question_that_is_none(tmp_path: Path, qa: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="LoCoMo"):
        read_questions(write(tmp_path, json.dumps([{"conversation": {}, "qa": [qa]}])))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(read_memories(tmp_path / "nothing"))


def test_questions_of_a_file_without_any(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="LoCoMo"):
        read_questions(write(tmp_path, '{"agent": "a", "content": "one"}'))


def test_the_same_lines_again_are_the_same_memories(tmp_path: Path) -> None:
    text = '{"agent": "a", "content": "one"}\n' * 2 + '{"agent": "a", "content": "x", "key": "k"}\n'
    first, second = ([line.item for line in read_memories(write(tmp_path, text))] for _ in range(2))
    assert first == second
    assert first[0] is not None
    assert first[1] is not None
    assert first[2] is not None
    assert first[0].id != first[1].id
    assert first[2].id is None


def test_a_first_line_that_is_a_list_spoils_only_itself(tmp_path: Path) -> None:
    lines = list(read_memories(write(tmp_path, '[1]\n{"agent": "a", "content": "one"}\n')))
    assert [(line.number, line.item is not None) for line in lines] == [(1, False), (2, True)]


def test_a_line_that_is_nested_too_deeply(tmp_path: Path) -> None:
    lines = list(read_memories(write(tmp_path, '{"agent": "a", "content": "one"}\n' + "[" * 100_000 + "\n")))
    assert [line.item is not None for line in lines] == [True, False]


def test_a_byte_order_mark(tmp_path: Path) -> None:
    (line,) = read_memories(write(tmp_path, '\ufeff{"agent": "a", "content": "one"}'))
    assert line.item is not None


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = Thread(target=pipe.write_text, args=('{"agent": "a", "content": "one"}\n',))
    thread.start()
    assert len(list(read_memories(pipe))) == 1
    thread.join(5)


def test_a_line_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b'{"agent": "a", "content": "one"}\n\xff\n')
    lines = list(read_memories(path))
    assert [(line.number, line.item is not None) for line in lines] == [(1, True), (2, False)]
