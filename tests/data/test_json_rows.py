"""Forms of JSON files. That they all give the same rows is tested in `test_files`."""

import json
from pathlib import Path

import pytest

from tuneoff.data import json_rows
from tuneoff.data.files import open_file
from tuneoff.data.load import load_dataset
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec


def table(folder: Path, text: str) -> SourceTable:
    (folder / "a.json").write_text(text, encoding="utf-8")
    return open_file(str(folder / "a.json"))


def values(folder: Path, text: str) -> list[dict[str, object]]:
    return [dict(row.values) for row in table(folder, text).rows if isinstance(row, SourceRow)]


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        values(folder, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        {"document": "d", "summary": ["a", "b"]},
        {"document": "d", "summary": "s", "meta": {"a": 1}},
        {"document": "d", "summary": "s", "comments": [{"by": "x"}]},
        {"messages": [{"a": "b"}]},
        {"a": 1},
    ],
)
def test_one_row_alone_is_a_row(tmp_path: Path, row: dict[str, object]) -> None:
    assert values(tmp_path, json.dumps(row) + "\n") == [row]
    assert values(tmp_path, json.dumps(row, indent=1)) == [row]


def test_keys_of_a_table_by_rows_are_ids_unless_they_are_numbers(tmp_path: Path) -> None:
    by_name = {"d7": {"document": "a", "summary": "b"}, "d9": {"document": "c", "id": "own"}}
    assert values(tmp_path, json.dumps(by_name)) == [
        {"id": "d7", "document": "a", "summary": "b"},
        {"id": "own", "document": "c"},
    ]


def test_a_table_by_columns_may_have_any_names(tmp_path: Path) -> None:
    text = json.dumps({"body": {"0": "a", "2": "b"}, "gist": {"0": "c"}})
    assert values(tmp_path, text) == [{"body": "a", "gist": "c"}, {"body": "b", "gist": None}]


def test_rows_under_several_keys_are_refused_with_a_way_out(tmp_path: Path) -> None:
    text = json.dumps({"train": [{"text": "a"}], "test": [{"text": "b"}]})
    assert "rows are under several keys ('train', 'test'); if they are splits, give the file with --data" in refused(
        tmp_path, text
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[\n {"text": "a"},\n {"text": "b"\n', "the JSON is incomplete: the file ends inside it"),
        ('[\n {"text": "a"},\n {"text" "b"}\n]', "line 3: not JSON (column 10: Expecting ':' delimiter)"),
        ('{\n "text": "a",\n}\n', "not JSON ("),
        ("[" * 100_000, "JSON that cannot be read"),
        ('[{"a": ' + "9" * 5000 + "}]", "JSON that cannot be read"),
    ],
)
def test_what_is_not_json_names_the_place(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path, text)


def test_an_array_may_hold_texts_and_what_is_neither_costs_that_row(tmp_path: Path) -> None:
    assert list(table(tmp_path, '["a", 5, {"text": "b"}]').rows) == [
        SourceRow(1, {"text": "a"}),
        UnreadableRow(2, "a JSON int, but an object was expected", is_malformed=True),
        SourceRow(3, {"text": "b"}),
    ]


def test_an_array_beyond_the_limit_is_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "LARGEST_WHOLE_JSON", 20)
    assert "that is not JSON Lines; write one object per line, for example with `jq" in refused(
        tmp_path, json.dumps([{"text": "a" * 20}])
    )
    assert len(values(tmp_path, '{"text": "a long text of a line"}\n{"text": "b"}\n')) == 2


def test_locations_are_lines_where_rows_are_and_row_numbers_elsewhere(tmp_path: Path) -> None:
    assert table(tmp_path, '{"text": "a"}\n{"text": "b"}\n').location(2).endswith("a.json:2")
    assert table(tmp_path, '[\n{"text": "a"}]').location(1).endswith("a.json, row 1")


@pytest.mark.parametrize(
    ("line", "way_out"),
    [
        (str({"text": "a", "summary": "b"}), "a Python dict with single quotes.*write each row with json.dumps"),
        ('{"text": "a", "summary": "b"}'.replace('"', "\u201c"), "curly quotes .*replace them with straight ones"),
    ],
)
def test_other_quotes_than_those_of_json_are_named_with_the_way_out(tmp_path: Path, line: str, way_out: str) -> None:
    (tmp_path / "a.jsonl").write_text(f"{line}\n" * 20, encoding="utf-8")
    with pytest.raises(UserError, match=way_out):
        load_dataset(DataSpec(train_file=str(tmp_path / "a.jsonl")))
