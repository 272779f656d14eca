"""Columns by usual names or as given, and rows that become examples."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tuneoff.data import Example
from tuneoff.data.columns import Columns, FoundColumns, RejectedRow, to_example
from tuneoff.data.columns import find_columns as find
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError


def table(*rows: Mapping[str, Any]) -> SourceTable:
    return SourceTable("data.jsonl", "line", iter([SourceRow(number, row) for number, row in enumerate(rows, 1)]))


def find_columns(table: SourceTable, document: str | None, summary: str | None) -> tuple[Columns, SourceTable]:
    found = find(table, document, summary)
    return found.columns, found.table


@pytest.mark.parametrize("document", ["document", "article", "dialogue", "text", "source", " Article "])
@pytest.mark.parametrize("summary", ["summary", "summaries", "highlights", "target", "tldr", "TLDR"])
def test_usual_names(document: str, summary: str) -> None:
    columns, _ = find_columns(table({"id": 1, summary: "s", document: "d"}), None, None)
    assert columns == Columns(document, (summary,))


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
    assert find_columns(table(row), None, None)[0] == Columns("document", ("summary",))
    assert find_columns(table(row), "text", "target")[0] == Columns("text", ("target",))


def test_first_row_may_lack_a_column_and_no_row_is_lost() -> None:
    columns, again = find_columns(table({"document": "d"}, {"document": "e", "summary": "s"}), None, None)
    assert columns == Columns("document", ("summary",))
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
    result = to_example(SourceRow(7, values), Columns("document", ("summary",)), "train")
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
        SourceRow(7, {"document": "d", "summary": ["a", " ", None, "b"]}), Columns("document", ("summary",)), "test"
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
        ({"document": ["d", 3], "summary": "s"}, "document is not text but list"),
        ({"document": {"a": "d"}, "summary": "s"}, "document is not text but dict"),
        ({"document": float("nan"), "summary": "s"}, "empty document"),
        ({"document": [" ", ""], "summary": "s"}, "empty document"),
        ({"document": "d", "summary": {"a": "b"}}, "summary is not text but dict"),
        ({"document": "d", "summary": ["s", ["t"]]}, "summary is not text but list"),
        ({"document": "NaN", "summary": "s"}, "document is 'NaN', which is how programs write a missing value"),
        (
            {"document": "d", "summary": [" None ", "N/A"]},
            "summary is 'None', which is how programs write a missing value",
        ),
        ({"document": "d", "summary": "..."}, "summary has no letter or digit"),
        ({"document": "\u2014 \U0001f600", "summary": "s"}, "document has no letter or digit"),
        ({"document": "document", "summary": " summary"}, "a second header line"),
        ({"document": "a\0b", "summary": "s"}, f"document {BROKEN}"),
        ({"document": "d", "summary": "\ud800"}, f"summary {BROKEN}"),
    ],
)
def test_rejected(values: dict[str, object], reason: str) -> None:
    result = made(**values)
    assert isinstance(result, RejectedRow)
    assert result.reason == reason


@pytest.mark.parametrize("broken", [{"note": "\udce9"}, {"id": "\udce9"}, {"\ud800": "x"}, {"note": "a\0"}])
def test_a_column_that_nobody_uses_costs_no_row(broken: dict[str, object]) -> None:
    example = made(document="d", summary="s", aspect="aim", **broken)
    assert isinstance(example, Example)
    assert (example.id, example.fields) == ("train-7", {"aspect": "aim"})


def test_a_number_is_its_text_as_in_csv() -> None:
    example = made(document=1984, summary=[4.5, True])
    assert isinstance(example, Example)
    assert (example.document, example.references) == ("1984", ("4.5", "True"))


def test_words_that_look_like_missing_values_inside_a_text_are_words() -> None:
    assert isinstance(made(document="None of them", summary="N/A means not applicable"), Example)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"text": "t", "document": "d", "article": "a", "summary": "s"},
            "'text', 'article' passed over.*--document-column",
        ),
        ({"document": "d", "target": "x", "Summary": "s"}, "'target' passed over.*--summary-column"),
    ],
)
def test_more_than_one_candidate_is_a_caution_with_the_flag_that_settles_it(row: dict[str, str], words: str) -> None:
    found = find(table(row), None, None)
    assert re.search(words, " ".join(found.cautions))
    assert found.taken.document == "document"
    assert set(found.taken.passed_over) == set(row) - {"document", "summary", "Summary"}
    assert set(found.taken.passed_over) <= set(found.taken.fields)
    settled = find(table(row), found.taken.document, found.taken.summary[0])
    assert (settled.cautions, settled.taken.passed_over) == ((), ())


def test_numbered_columns_are_several_references() -> None:
    row = {"dialogue": "d", "summary1": "a", "summary2": "b", "topic1": "t"}
    found = find(table(row), None, None)
    assert found.taken.summary == ("summary1", "summary2")
    result = to_example(SourceRow(1, row), found.columns, "test")
    assert not isinstance(result, RejectedRow)
    assert result[0].references == ("a", "b")
    assert result[0].fields == {"topic1": "t"}
    assert find(table({**row, "summary": "s"}), None, None).taken.summary == ("summary",)


def test_several_summary_columns_are_given_with_commas() -> None:
    row = {"document": "d", "one": "a", "two, three": "b", "four": "c"}
    assert find(table(row), None, "one, four").taken.summary == ("one", "four")
    assert find(table(row), None, "two, three").taken.summary == ("two, three",)


def test_a_list_of_sentences_as_summary_is_a_caution_and_can_be_joined() -> None:
    row = {"document": "d", "summary": ["One.", "Two. ", "Three."]}
    (caution,) = find(table(row), None, None).cautions
    assert "each summary is a list of 3 texts; they are taken as alternative references" in caution
    joined = find(table(row), None, None, summary_lists="sentences")
    result = to_example(SourceRow(1, row), joined.columns, "train")
    assert not isinstance(result, RejectedRow)
    assert result[0].references == ("One. Two. Three.",)
    assert joined.cautions == ()
    assert find(table(row), None, None, summary_lists="references").cautions == ()
    assert find(table(row), None, None, split="test").cautions == ()
    assert find(table({"document": "d", "summary": ["one"]}), None, None).cautions == ()


def test_documents_that_are_lists_of_sentences_are_joined_and_so_are_their_summaries() -> None:
    row = {"text": ["One.", "Two."], "summary": ["A.", "B."]}
    found = find(table(row), None, None)
    assert len(found.cautions) == 2
    result = to_example(SourceRow(1, row), found.columns, "train")
    assert not isinstance(result, RejectedRow)
    assert (result[0].document, result[0].references) == ("One. Two.", ("A. B.",))


def alpaca(*asked: tuple[str, str]) -> SourceTable:
    return table(*[{"instruction": one, "input": two, "output": "o"} for one, two in asked])


def documents(found: FoundColumns) -> list[str]:
    results = [to_example(row, found.columns, "train") for row in found.table.rows]
    return [result[0].document for result in results if not isinstance(result, RejectedRow)]


def test_alpaca_with_one_instruction_reads_the_input() -> None:
    found = find(alpaca(("Sum up.", "a"), ("Sum up.", "b")), None, None)
    assert documents(found) == ["a", "b"]
    assert found.taken.fields == ("instruction",)
    assert "--instruction '{instruction}'" in found.cautions[0]
    assert find(alpaca(("Sum up.", "a")), None, None, ("instruction",)).cautions == ()


def test_alpaca_with_questions_alone_reads_instruction_and_input() -> None:
    found = find(alpaca(("Why?", ""), ("Sum up.", "b")), None, None)
    assert documents(found) == ["Why?", "Sum up.\n\nb"]
    assert "--document-column NAME" in found.cautions[0]
    assert documents(find(alpaca(("Why?", ""), ("Sum up.", "b")), "input", "output")) == ["b"]


def test_the_input_is_joined_as_in_another_table_of_the_data() -> None:
    """Without an empty input a table alone would be read by its input."""
    found = find(alpaca(("Why?", "a"), ("Sum up.", "b")), None, None, joins_input=True)
    assert documents(found) == ["Why?\n\na", "Sum up.\n\nb"]
    assert found.taken.added_to_document == "input"
    assert find(alpaca(("Why?", "a"), ("Sum up.", "b")), None, None).taken.added_to_document is None
    assert documents(find(table({"text": "d", "summary": "s"}), None, None, joins_input=True)) == ["d"]


def test_a_header_that_is_a_row_is_named_as_such() -> None:
    row = {"The council met on Tuesday and spoke about a new bus line to the hospital": "b", "Short": "c"}
    with pytest.raises(UserError, match="its first line seems to be a row, not the names of the columns"):
        find(table(row), None, None)


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (("Buy milk today", "shop"), [("Call the bank", "money"), ("Buy two eggs", "shop")]),
        (("Where is it?", "where"), [("Who was there then?", "who")]),
        (("1", "milk"), [("2", "eggs"), ("3", "bread")]),
        (("milk and eggs", "x"), [("bread and butter", "y")]),
    ],
)
def test_short_cells_above_others_are_no_header(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with pytest.raises(UserError, match=r"seems to be a row, .* or, if these are names, give --document-column and"):
        find(table(*(dict(zip(header, row, strict=True)) for row in rows)), None, None)


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (("email", "subject"), [("Is it in?", "Order"), ("email", "subject")]),  # a second header line
        (("0", "1"), [("Is it in?", "Order")]),
        (("body of the mail", "subject"), [("Is my order 1182 in?", "Order")]),
        (("email", "kind"), [("Is it in?", "3")]),
    ],
)
def test_a_header_without_usual_names_is_still_one(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with pytest.raises(UserError, match="no column has a usual name for the document; name it with --document-column"):
        find(table(*(dict(zip(header, row, strict=True)) for row in rows)), None, None)
