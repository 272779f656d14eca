"""Cleaning: every row becomes an example or is reported with its location and reason."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.data_files import load_rows, pair
from tuneoff.data import cleaning_report, load_dataset
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec


def test_a_document_in_two_splits_stays_in_test_else_validation(tmp_path: Path) -> None:
    dataset = load_rows(
        tmp_path,
        {
            "train": [pair(1), pair(2), pair(3)],
            "validation": [pair(2), pair(4)],
            "test": [{"document": " document  1\n", "summary": "another"}, pair(4), pair(5)],
        },
    )
    assert [example.document for example in dataset.train] == ["document 3"]
    assert [example.document for example in dataset.validation] == ["document 2"]
    assert [example.document for example in dataset.test] == ["document  1", "document 4", "document 5"]
    assert sorted((row.split, Path(row.location).name, row.reason) for row in dataset.dropped) == [
        ("train", "train.jsonl:1", "document is in test too"),
        ("train", "train.jsonl:2", "document is in validation too"),
        ("validation", "validation.jsonl:2", "document is in test too"),
    ]


def test_duplicate_pairs_are_dropped_but_only_reported_in_test(tmp_path: Path) -> None:
    twice = [pair(1), pair(1), {"document": "document 1", "summary": "other"}]
    dataset = load_rows(
        tmp_path,
        {"train": twice, "validation": [pair(2), pair(2)], "test": [pair(3, id="x"), pair(3, id="x")]},
    )
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [2, 1, 2]
    assert [(row.split, row.kept) for row in dataset.dropped] == [
        ("test", True),
        ("validation", False),
        ("train", False),
    ]
    assert [example.id for example in dataset.test] == ["x", "x-2"]


def test_the_same_answer_to_two_questions_is_not_a_duplicate(tmp_path: Path) -> None:
    questions = [pair(1, question="first?"), pair(1, question="second?")]
    dataset = load_rows(tmp_path, {"train": questions, "validation": [pair(2)], "test": [pair(3)]})
    assert [example.fields["question"] for example in dataset.train] == ["first?", "second?"]


def test_ids_become_unique_even_when_the_new_one_is_taken(tmp_path: Path) -> None:
    named = [pair(n, id=id) for n, id in enumerate(["a", "a-2", "a", "a", "a-2"])]
    dataset = load_rows(tmp_path, {"train": named, "validation": [pair(8)], "test": [pair(9)]})
    assert [example.id for example in dataset.train] == ["a", "a-2", "a-3", "a-4", "a-2-2"]


def test_a_split_that_cleaning_empties_is_refused_with_the_reasons(tmp_path: Path) -> None:
    empty = [{"document": "", "summary": "s"}, {"document": "d", "summary": ""}, {"document": " ", "summary": "s"}]
    with pytest.raises(UserError, match=r"is left for validation .*\(empty document: 2; empty summary: 1\)"):
        load_rows(tmp_path, {"train": [pair(1)], "validation": empty, "test": [pair(2)]})
    with pytest.raises(UserError, match=r"is left for train .*document is in test too: 1"):
        load_rows(tmp_path, {"train": [pair(1)], "validation": [pair(2)], "test": [pair(1)]})
    with pytest.raises(UserError, match="it has 2 different documents, too few to hold out"):
        load_rows(tmp_path, {"train": [pair(1), pair(2)]})
    again = [{"document": "shorter", "summary": f"answer {n}"} for n in range(9)]
    with pytest.raises(UserError, match="the document of all its 9 rows is 'shorter', too few to hold out"):
        load_rows(tmp_path, {"train": again})


def test_rows_without_a_field_of_the_instruction_are_dropped_and_reported(tmp_path: Path) -> None:
    aspects: list[Any] = ["aim", None, "aim", ["a", "b"], ""]
    rows = {
        "train": [pair(n, aspect=aspect) for n, aspect in enumerate(aspects)] + [pair(9)],
        "validation": [pair(10, aspect="aim")],
        "test": [pair(20, aspect=7)],
    }
    dataset = load_rows(tmp_path, rows, "aspect")
    assert [example.id for example in dataset.train] == ["train-1", "train-3", "train-5"]
    file = tmp_path / "train.jsonl"
    assert cleaning_report(dataset) == [
        f"train: 3 rows dropped, no value for {{aspect}} of the instruction ({file}:2, {file}:4, {file}:6)"
    ]
    assert len(load_rows(tmp_path, rows).train) == 6


def test_report_names_counts_reasons_and_first_locations(tmp_path: Path) -> None:
    train = [pair(1), *[{"document": "d", "summary": ""}] * 5, pair(2), {"document": "e", "summary": ["s", ""]}]
    dataset = load_rows(
        tmp_path,
        {"train": train, "validation": [pair(3)], "test": [pair(4), pair(4)]},
        max_train_documents=2,
    )
    file = tmp_path / "train.jsonl"
    assert cleaning_report(dataset) == [
        f"train: 5 rows dropped, empty summary ({file}:2, {file}:3, {file}:4, ...)",
        f"train: 1 row kept, some of its summaries are empty, the others are used ({file}:8)",
        "train: 1 row left out, beyond the requested number of documents",
        f"test: 1 row kept, duplicate pair ({tmp_path / 'test.jsonl'}:2)",
    ]


def test_a_table_of_equal_ids_and_repeated_pairs_is_read_in_linear_time(tmp_path: Path) -> None:
    # Linear time takes well under a second; searching a free id from the start for each row would take minutes.
    train = [pair(n, id="same") for n in range(10_000)] + [pair(0, id="same")] * 10_000
    dataset = load_rows(tmp_path, {"train": train, "validation": [pair(-1)], "test": [pair(-2)]})
    assert Counter(row.reason for row in dataset.dropped) == {"duplicate pair": 9_999 + 1}
    assert dataset.train[-1].id == "same-10000"


@pytest.mark.parametrize(("bad", "stops"), [(0, False), (1, False), (2, False), (3, True)])
def test_a_file_of_which_more_than_a_tenth_cannot_be_read_is_refused(tmp_path: Path, bad: int, stops: bool) -> None:
    good = "".join(f"document {n},summary {n}\n" for n in range(20 - bad))
    (tmp_path / "a.csv").write_text("text,summary\n" + "a,b,c\n" * bad + good)
    spec = DataSpec(train_file=str(tmp_path / "a.csv"))
    if stops:
        with pytest.raises(UserError, match=r"3 of 20 rows cannot be read.*a\.csv:2\); put quotes around texts"):
            load_dataset(spec)
    else:
        assert len(load_dataset(spec).dropped) == bad


@pytest.mark.parametrize("bad", [1, 20])
def test_a_line_that_is_not_json_is_refused_with_its_number(tmp_path: Path, bad: int) -> None:
    good = "".join(f'{{"text": "document {n}", "summary": "summary {n}"}}\n' for n in range(20 - bad))
    (tmp_path / "a.jsonl").write_text(good + '{"text": "cut"\n' * bad)
    words = rf"a\.jsonl:{21 - bad}: .*not JSON .*; write one complete JSON object per line"
    with pytest.raises(UserError, match=words):
        load_dataset(DataSpec(train_file=str(tmp_path / "a.jsonl")))
