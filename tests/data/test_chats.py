"""Chats become a document, a text wanted and a field."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from support.data_files import load_rows
from tuneoff.data import load_dataset, write_rows
from tuneoff.data.chats import with_chat_columns
from tuneoff.data.files import open_file
from tuneoff.data.source_table import SourceRow, UnreadableRow
from tuneoff.spec import DataSpec

OPENAI = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "A long text."},
    {"role": "assistant", "content": "A text."},
]
SHAREGPT = [{"from": "human", "value": "A long text."}, {"from": "gpt", "value": "A text."}]


def columns(**values: object) -> SourceRow:
    row = with_chat_columns(SourceRow(1, values))
    assert isinstance(row, SourceRow)
    return row


def test_a_chat_of_openai_and_one_of_sharegpt() -> None:
    assert columns(id="x", messages=OPENAI) == SourceRow(
        1,
        {
            "id": "x",
            "messages.user": "A long text.",
            "messages.assistant": "A text.",
            "messages.system": "Be brief.",
        },
    )
    assert columns(conversations=SHAREGPT).values == {
        "conversations.user": "A long text.",
        "conversations.assistant": "A text.",
    }


def test_of_a_longer_chat_the_last_answer_is_used_and_this_is_noted() -> None:
    row = columns(messages=[*OPENAI, {"role": "user", "content": "a"}, {"role": "user", "content": "b"}, OPENAI[2]])
    assert row.values["messages.user"] == "a\n\nb"
    assert row.note is not None
    assert "other turns of the chat are left out" in row.note


def test_messages_made_of_parts_and_lists_in_prompt_and_completion() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "image_url"}, {"type": "text", "text": "two"}]
    assert columns(messages=[{"role": "user", "content": parts}]).values == {"messages.user": "one\n\ntwo"}
    assert columns(prompt=OPENAI[:2], completion=OPENAI[2:]).values == {
        "prompt": "A long text.",
        "prompt.system": OPENAI[0]["content"],
        "completion": "A text.",
    }


def test_earlier_turns_of_a_prompt_are_left_out_and_this_is_noted() -> None:
    turns = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    row = columns(prompt=turns, completion=[{"role": "assistant", "content": "d"}])
    assert row.values == {"prompt": "c", "completion": "d"}
    assert row.note is not None
    assert columns(prompt=turns[2:], completion="d").note is None


def turns_of(*pairs: tuple[str, str | None]) -> list[dict[str, str | None]]:
    return [{"role": role, "content": text} for role, text in pairs]


@pytest.mark.parametrize(
    "after",
    [
        [("assistant", None), ("tool", "found")],
        [("assistant", "I begin")],
        [("tool", "found")],
    ],
)
def test_turns_between_the_question_and_the_answer_lose_no_row(after: list[tuple[str, str | None]]) -> None:
    """Calls of a tool with their results, and the beginning of an answer: the question before them is the document."""
    asked = turns_of(("user", "old"), ("assistant", "yes"), ("user", "a"), ("user", "b"), *after)
    row = columns(prompt=asked, completion=turns_of(("assistant", "c")))
    assert row.values == {"prompt": "a\n\nb", "completion": "c"}
    assert row.note is not None
    assert "other turns of the chat are left out" in row.note
    short = columns(prompt=turns_of(("user", "a"), *after), completion="c")
    assert (short.values["prompt"], short.note) == ("a", row.note)
    chat = columns(messages=[*asked, *turns_of(("assistant", "c"))])
    assert chat.values == {"messages.user": "a\n\nb", "messages.assistant": "c"}
    assert chat.note == row.note
    short = columns(messages=turns_of(("user", "a"), *after, ("assistant", "c")))
    assert (short.values["messages.user"], short.note) == ("a", row.note)


def test_a_chat_without_a_question_has_no_document() -> None:
    for turns in (turns_of(("assistant", "c")), turns_of(("tool", "found"), ("assistant", "c"))):
        assert columns(messages=turns).values == {"messages.user": "", "messages.assistant": "c"}
    assert columns(prompt=turns_of(("assistant", "b")), completion="c").values["prompt"] == ""


@pytest.mark.parametrize("value", [[], "text", [1], [{"a": "b"}], ["a", "b"], {"role": "user"}, None])
def test_other_values_stay_as_they_are(value: object) -> None:
    row = SourceRow(1, {"messages": value})
    assert with_chat_columns(row) is row
    damaged = UnreadableRow(1, "x")
    assert with_chat_columns(damaged) is damaged


def test_a_study_takes_user_and_assistant(tmp_path: Path) -> None:
    train = [{"messages": [OPENAI[0], {"role": "user", "content": f"text {n}"}, OPENAI[2]]} for n in range(5)]
    dataset = load_rows(tmp_path, {"train": train}, "messages.system")
    taken = dataset.columns["train"]
    assert (taken.document, taken.summary, taken.fields) == (
        "messages.user",
        ("messages.assistant",),
        ("messages.system",),
    )
    assert dataset.train[0].fields == {"messages.system": "Be brief."}


def test_chats_in_parquet_and_in_memory(tmp_path: Path) -> None:
    parts = {"prompt": OPENAI[:2], "completion": OPENAI[2:]}
    parquet.write_table(pa.table({name: [value] for name, value in parts.items()}), tmp_path / "a.parquet")
    (row,) = open_file(str(tmp_path / "a.parquet")).rows
    assert isinstance(row, SourceRow)
    assert (row.values["prompt"], row.values["completion"]) == ("A long text.", "A text.")
    parquet.write_table(pa.table({"messages": [OPENAI]}), tmp_path / "a.parquet")
    (row,) = open_file(str(tmp_path / "a.parquet")).rows
    assert isinstance(row, SourceRow)
    assert row.values["messages.assistant"] == "A text."
    chats = [[{"role": "user", "content": f"text {at}"}, OPENAI[2]] for at in range(30)]
    dataset = load_dataset(DataSpec(train_file=str(write_rows([{"messages": chat} for chat in chats], tmp_path))))
    assert dataset.train[0].document.startswith("text ")
    assert dataset.train[0].references == ("A text.",)
