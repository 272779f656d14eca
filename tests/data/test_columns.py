"""Columns by usual names or as given, and rows that become examples."""

from collections.abc import Mapping
from typing import Any

import pytest

from tuneoff.data import Example
from tuneoff.data.columns import Columns, RejectedRow, find_columns, to_example
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError


def table(*rows: Mapping[str, Any]) -> SourceTable:
    return SourceTable("data.jsonl", "line", iter([SourceRow(number, row) for number, row in enumerate(rows, 1)]))


@pytest.mark.parametrize("document", ["document", "article", "dialogue", "text", "source", " Article "])
@pytest.mark.parametrize("summary", ["summary", "summaries", "highlights", "target", "tldr", "TLDR"])
def test_usual_names(document: str, summary: str) -> None:
    columns, _ = find_columns(table({"id": 1, summary: "s", document: "d"}), None, None)
    assert columns == Columns(document, summary)


@pytest.mark.parametrize("name", ["id", "ID", " Id "])
def test_the_id_is_found_in_any_case(name: str) -> None:
    row = {name: "x", "document": "d", "summary": "s"}
    result = to_example(SourceRow(1, row), find_columns(table(row), None, None)[0], "train")
    assert not isinstance(result, RejectedRow)
    assert (result[0].id, result[0].fields) == ("x", {})


def test_of_two_ids_the_one_spelt_as_usual_is_taken() -> None:
    row = {"ID": "x", "id": "y", "document": "d", "summary": "s"}
    assert find_columns(table(row), None, None)[0].identity == "id"


def test_order_of_preference_and_given_names() -> None:
    row = {"text": "t", "document": "d", "target": "x", "summary": "s"}
    assert find_columns(table(row), None, None)[0] == Columns("document", "summary")
    assert find_columns(table(row), "text", "target")[0] == Columns("text", "target")


def test_first_row_may_lack_a_column_and_no_row_is_lost() -> None:
    columns, again = find_columns(table({"document": "d"}, {"document": "e", "summary": "s"}), None, None)
    assert columns == Columns("document", "summary")
    assert [row.number for row in again.rows] == [1, 2]


def test_wrong_column_lists_those_there_are() -> None:
    with pytest.raises(UserError, match=r"no column 'sumary' .* did you mean 'summary'\? .*'document', 'summary'"):
        find_columns(table({"document": "d", "summary": "s"}), None, "sumary")
    with pytest.raises(UserError, match=r"give another --document-column \(columns: 'body', 'gist'\)"):
        find_columns(table({"body": "d", "gist": "s"}), "zzz", None)
    with pytest.raises(UserError, match=r"usual name for the document; name it with --document-column"):
        find_columns(table({"body": "d", "summary": "s"}), None, None)
    with pytest.raises(UserError, match="both the document and the summary"):
        find_columns(table({"text": "d", "summary": "s"}), "text", "text")


def test_hostile_column_names_stay_one_line_and_short() -> None:
    with pytest.raises(UserError) as caught:
        find_columns(table({f"a\n\x1b[31m{n}": "d" for n in range(500)}), None, None)
    message = str(caught.value)
    assert message.isprintable()
    assert "and 480 more" in message


def test_no_rows_and_no_readable_rows() -> None:
    with pytest.raises(UserError, match="has no rows"):
        find_columns(table(), None, None)
    with pytest.raises(UserError, match=r"data\.jsonl:1: no row can be read \(not UTF-8\)"):
        find_columns(SourceTable("data.jsonl", "line", iter([UnreadableRow(1, "not UTF-8")])), None, None)


def made(**values: object) -> Example | RejectedRow:
    result = to_example(SourceRow(7, values), Columns("document", "summary"), "train")
    return result if isinstance(result, RejectedRow) else result[0]


def test_other_scalar_columns_become_fields() -> None:
    example = made(
        document=" d\n", summary="s ", aspect="outcome", year=1999, share=0.5, good=True, nothing=None, tags=["a"]
    )
    assert isinstance(example, Example)
    assert (example.id, example.document, example.references) == ("train-7", "d", ("s",))
    assert example.fields == {"aspect": "outcome", "year": "1999", "share": "0.5", "good": "True"}


@pytest.mark.parametrize(
    ("given", "expected"), [("x", "x"), (12, "12"), (None, "train-7"), ("  ", "train-7"), ([1], "train-7")]
)
def test_id_column(given: object, expected: str) -> None:
    example = made(id=given, document="d", summary="s")
    assert isinstance(example, Example)
    assert example.id == expected
    assert "id" not in example.fields


def test_several_references_and_empty_ones_among_them() -> None:
    result = to_example(
        SourceRow(7, {"document": "d", "summary": ["a", " ", None, "b"]}), Columns("document", "summary"), "test"
    )
    assert not isinstance(result, RejectedRow)
    example, empty = result
    assert example.references == ("a", "b")
    assert empty == 2


BROKEN = "is not text (NUL or bytes that are not UTF-8)"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"document": "", "summary": "s"}, "empty document"),
        ({"summary": "s"}, "empty document"),
        ({"document": "d"}, "empty summary"),
        ({"document": "d", "summary": " \n"}, "empty summary"),
        ({"document": "d", "summary": []}, "empty summary"),
        ({"document": "d", "summary": [None, ""]}, "empty summary"),
        ({"document": 3, "summary": "s"}, "document is not text but int"),
        ({"document": ["d"], "summary": "s"}, "document is not text but list"),
        ({"document": "d", "summary": {"a": "b"}}, "summary is not text but dict"),
        ({"document": "d", "summary": ["s", 4]}, "summary is not text but int"),
        ({"document": "a\0b", "summary": "s"}, f"document {BROKEN}"),
        ({"document": "d", "summary": "\ud800"}, f"summary {BROKEN}"),
        ({"document": "d", "summary": "s", "note": "\udce9"}, f"another column {BROKEN}"),
        ({"document": "d", "summary": "s", "id": "\udce9"}, f"another column {BROKEN}"),
        ({"document": "d", "summary": "s", "\ud800": "x"}, f"another column {BROKEN}"),
    ],
)
def test_rejected(values: dict[str, object], reason: str) -> None:
    assert made(**values) == RejectedRow(reason)
