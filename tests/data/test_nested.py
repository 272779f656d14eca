"""Columns inside objects are taken by their dotted names, and named where no column has a usual name."""

import pytest

from tuneoff.data.columns import RejectedRow, find_columns, to_example
from tuneoff.data.nested import nested_names, with_nested
from tuneoff.data.source_table import SourceRow, SourceTable
from tuneoff.errors import UserError

ROW = {"doc": {"body": "b", "by": {"name": "Ada"}}, "meta": {"tldr": ["s", "t"]}, "id": "1"}


def table(*rows: dict[str, object]) -> SourceTable:
    return SourceTable("a.jsonl", "line", iter([SourceRow(number, row) for number, row in enumerate(rows, 1)]))


def test_document_summary_and_fields_inside_objects() -> None:
    found = find_columns(table(ROW, ROW), "doc.body", "meta.tldr", ["doc.by.name"])
    results = [to_example(row, found.columns, "train") for row in found.table.rows]
    assert [
        (result[0].document, result[0].references, dict(result[0].fields))
        for result in results
        if not isinstance(result, RejectedRow)
    ] == [("b", ("s", "t"), {"doc.by.name": "Ada"})] * 2


def test_a_column_whose_name_has_a_dot_takes_precedence() -> None:
    row = {"doc.body": "own", "doc": {"body": "inside"}}
    assert with_nested(row, ["doc.body", "doc.none", "x.y"]) == row


def test_names_inside_objects_are_listed() -> None:
    assert set(nested_names(ROW)) == {"doc.body", "doc.by.name", "meta.tldr"}
    with pytest.raises(UserError, match=r"name it with --document-column .*'doc\.body'"):
        find_columns(table(ROW), None, None)
    with pytest.raises(UserError, match=r"there is no column 'doc\.bodi' .* did you mean 'doc\.body'\?"):
        find_columns(table(ROW), "doc.bodi", "meta.tldr")


def test_objects_without_end_are_read_to_a_depth() -> None:
    deep: dict[str, object] = {}
    for _ in range(1000):
        deep = {"a": deep}
    assert list(nested_names(deep)) == []
