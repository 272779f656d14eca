"""From files to a data set: every row is used or counted, no document stands in two splits, nothing moves by itself."""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneoff.data import Dataset, cleaning_report, load
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec

SPLITS = ("train", "validation", "test")
Rows = list[dict[str, Any]]


def write(folder: Path, name: str, rows: Rows) -> str:
    path = folder / f"{name}.jsonl"
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return str(path)


def load_rows(folder: Path, rows: Mapping[str, Rows], *wanted: str, **more: Any) -> Dataset:
    files = {f"{split}_file": write(folder, split, of) for split, of in rows.items()}
    return load(DataSpec(**files, **more), wanted)


def pair(n: int, **more: Any) -> dict[str, Any]:
    return {"document": f"document {n}", "summary": f"summary {n}", **more}


text = st.sampled_from(["one", "one ", "two", "two\n two", "two two", "three", "", " ", "\0", "\ud800", None, 7])
summary = st.one_of(text, st.lists(text, max_size=3))
row = st.fixed_dictionaries({}, optional={"document": text, "summary": summary, "id": text, "aspect": text})
# One sure row first in each file: a split without any good row is refused, which is another test's subject.
rows = st.lists(row, max_size=12)
given_splits = st.sets(st.sampled_from(["validation", "test"]))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(rows, rows, rows, given_splits, st.none() | st.integers(1, 3), st.integers(0, 3))
def test_every_row_is_used_or_counted_with_its_line(
    train: Rows, validation: Rows, test: Rows, present: set[str], cap: int | None, seed: int
) -> None:
    sure: dict[str, Rows] = {
        "train": [pair(n) for n in range(4)] + train,
        "validation": [pair(10), *validation],
        "test": [pair(20), *test],
    }
    files = {split: of for split, of in sure.items() if split == "train" or split in present}
    caps = {f"max_{split}_documents": cap for split in SPLITS}
    with tempfile.TemporaryDirectory() as folder:
        dataset = load_rows(Path(folder), files, split_seed=seed, **caps)
        again = load_rows(Path(folder), files, split_seed=seed, **caps)
        assert again == dataset
        used = sum(len(getattr(dataset, split)) for split in SPLITS)
        gone = [row for row in dataset.dropped if not row.kept]
        assert used + len(gone) + sum(dataset.left_out.values()) == sum(map(len, files.values()))
        for dropped in dataset.dropped:
            path, _, line = dropped.where.rpartition(":")
            assert Path(path) == Path(folder, f"{dropped.split}.jsonl")
            assert 1 <= int(line) <= len(files[dropped.split])
            assert dropped.reason
        assert len({row.where for row in gone}) == len(gone)
        groups = [{example.group for example in getattr(dataset, split)} for split in SPLITS]
        assert all(groups)
        assert len(groups[0] | groups[1] | groups[2]) == sum(map(len, groups))
        assert cap is None or all(len(found) <= cap for found in groups)
        for split in SPLITS:
            ids = [example.id for example in getattr(dataset, split)]
            assert len(set(ids)) == len(ids)
        assert not any(row.kept and row.reason == "duplicate pair" for row in dataset.dropped if row.split != "test")
        json.dumps([[e.id, e.document, *e.references, *e.fields.values()] for e in dataset.test]).encode()


def test_a_document_in_two_splits_stays_in_the_later_one(tmp_path: Path) -> None:
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
    assert sorted((row.split, Path(row.where).name, row.reason) for row in dataset.dropped) == [
        ("train", "train.jsonl:1", "document stands in test too"),
        ("train", "train.jsonl:2", "document stands in validation too"),
        ("validation", "validation.jsonl:2", "document stands in test too"),
    ]


def test_a_document_beyond_the_cap_of_test_is_no_training_data_either(tmp_path: Path) -> None:
    test = [pair(n) for n in range(10)]
    dataset = load_rows(
        tmp_path,
        {"train": [*test, pair(99)], "validation": [pair(98)], "test": test},
        max_test_documents=1,
    )
    assert [example.document for example in dataset.train] == ["document 99"]
    assert dataset.left_out == {"test": 9}


def test_duplicate_pairs_are_dropped_but_in_test_only_told(tmp_path: Path) -> None:
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


def test_the_same_answer_to_two_questions_is_no_duplicate(tmp_path: Path) -> None:
    questions = [pair(1, question="first?"), pair(1, question="second?")]
    dataset = load_rows(tmp_path, {"train": questions, "validation": [pair(2)], "test": [pair(3)]})
    assert [example.fields["question"] for example in dataset.train] == ["first?", "second?"]


def test_ids_become_unique_even_when_the_new_one_is_taken(tmp_path: Path) -> None:
    named = [pair(n, id=id) for n, id in enumerate(["a", "a-2", "a", "a", "a-2"])]
    dataset = load_rows(tmp_path, {"train": named, "validation": [pair(8)], "test": [pair(9)]})
    assert [example.id for example in dataset.train] == ["a", "a-2", "a-3", "a-4", "a-2-2"]


def test_missing_splits_are_cut_off_by_document(tmp_path: Path) -> None:
    train = [pair(n % 50, aspect=str(n)) for n in range(150)]
    dataset = load_rows(tmp_path, {"train": train}, validation_share=0.1, test_share=0.2)
    documents = [len({example.group for example in getattr(dataset, split)}) for split in SPLITS]
    assert documents == [35, 5, 10]
    assert [len(getattr(dataset, split)) for split in SPLITS] == [105, 15, 30]
    assert dataset.description == (
        "train.jsonl: train 105 pairs of 35 documents, validation 15 pairs of 5 documents (cut off train), "
        "test 30 pairs of 10 documents (cut off train)"
    )
    other = load_rows(tmp_path, {"train": train}, validation_share=0.1, test_share=0.2, split_seed=1)
    assert other.content_hash != dataset.content_hash


def test_the_cut_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    train = [pair(n) for n in range(50)]
    one = load_rows(tmp_path, {"train": train})
    other = load_rows(tmp_path, {"train": train[::-1]})
    for split in SPLITS:
        assert {e.group for e in getattr(one, split)} == {e.group for e in getattr(other, split)}


def test_caps_are_nested(tmp_path: Path) -> None:
    files = {"train": [pair(n) for n in range(60)], "validation": [pair(100)], "test": [pair(200)]}
    ten = load_rows(tmp_path, files, max_train_documents=10)
    twenty = load_rows(tmp_path, files, max_train_documents=20)
    assert {example.id for example in ten.train} < {example.id for example in twenty.train}
    assert (len(ten.train), len(twenty.train)) == (10, 20)
    assert ten.left_out == {"train": 50}


@pytest.mark.parametrize(
    "change",
    [{"document": "document 1!"}, {"summary": "other"}, {"id": "x"}, {"aspect": "a"}, {"summary": ["summary 1", "b"]}],
)
def test_content_hash_moves_with_everything_that_matters(tmp_path: Path, change: dict[str, Any]) -> None:
    files = {"train": [pair(1)], "validation": [pair(2)], "test": [pair(3)]}
    before = load_rows(tmp_path, files)
    assert load_rows(tmp_path, files).content_hash == before.content_hash
    assert len(before.content_hash) == 16
    after = load_rows(tmp_path, {**files, "train": [pair(1, **change)]})
    assert after.content_hash != before.content_hash
    moved = load_rows(tmp_path, {"train": [pair(1)], "validation": [pair(3)], "test": [pair(2)]})
    assert moved.content_hash != before.content_hash


def test_a_split_that_cleaning_empties_is_refused_with_the_reasons(tmp_path: Path) -> None:
    empty = [{"document": "", "summary": "s"}, {"document": "d", "summary": ""}, {"document": " ", "summary": "s"}]
    with pytest.raises(UserError, match=r"is left for validation .*\(empty document: 2; empty summary: 1\)"):
        load_rows(tmp_path, {"train": [pair(1)], "validation": empty, "test": [pair(2)]})
    with pytest.raises(UserError, match=r"is left for train .*document stands in test too: 1"):
        load_rows(tmp_path, {"train": [pair(1)], "validation": [pair(2)], "test": [pair(1)]})
    with pytest.raises(UserError, match="it has 2 different documents, too few to cut off"):
        load_rows(tmp_path, {"train": [pair(1), pair(2)]})


def test_rows_without_a_field_of_the_instruction_are_dropped_and_told(tmp_path: Path) -> None:
    aspects: list[Any] = ["aim", None, "aim", ["a", "b"], ""]
    rows = {
        "train": [pair(n, aspect=aspect) for n, aspect in enumerate(aspects)] + [pair(9)],
        "validation": [pair(10, aspect="aim")],
        "test": [pair(20, aspect=7)],
    }
    dataset = load_rows(tmp_path, rows, "aspect")
    assert [example.id for example in dataset.train] == ["train-1", "train-3", "train-5"]
    at = tmp_path / "train.jsonl"
    assert cleaning_report(dataset) == [
        f"train: 3 rows dropped, nothing to fill {{aspect}} of the instruction with ({at}:2, {at}:4, {at}:6)"
    ]
    assert len(load_rows(tmp_path, rows).train) == 6


def test_a_field_that_a_file_does_not_have_is_refused(tmp_path: Path) -> None:
    rows = {"train": [pair(1, aspect="aim")], "validation": [pair(2)], "test": [pair(3, aspect="aim")]}
    with pytest.raises(UserError, match=r"train\.jsonl: .*'aspcet' for \{aspcet\} .*; did you mean 'aspect'\?"):
        load_rows(tmp_path, rows, "aspcet")
    with pytest.raises(UserError, match=r"validation\.jsonl: there is no column 'aspect' .*; correct --instruction"):
        load_rows(tmp_path, rows, "aspect")


def test_the_same_file_for_two_splits_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "train", [pair(1)])
    with pytest.raises(UserError, match="given for both train and test"):
        load(DataSpec(train_file=path, test_file=str(tmp_path / "." / "train.jsonl")))


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder written by datasets; name its data files with --train-file"):
        load(DataSpec(source=str(tmp_path)))
    path = write(tmp_path, "train", [pair(1)])
    with pytest.raises(UserError, match="give it with --train-file"):
        load(DataSpec(source=path))
    with pytest.raises(UserError, match="no such folder, and it is no hub name"):
        load(DataSpec(source=str(tmp_path / "nowhere" / "at all")))
    with pytest.raises(UserError, match=r"no such file; did you mean 'train\.jsonl'"):
        load(DataSpec(source=str(tmp_path / "tarin.jsonl")))


def test_report_names_counts_reasons_and_first_places(tmp_path: Path) -> None:
    train = [pair(1), *[{"document": "d", "summary": ""}] * 5, pair(2), {"document": "e", "summary": ["s", ""]}]
    dataset = load_rows(
        tmp_path,
        {"train": train, "validation": [pair(3)], "test": [pair(4), pair(4)]},
        max_train_documents=2,
    )
    at = tmp_path / "train.jsonl"
    assert cleaning_report(dataset) == [
        f"train: 5 rows dropped, empty summary ({at}:2, {at}:3, {at}:4, ...)",
        f"train: 1 row kept, some of its summaries are empty, the others are used ({at}:8)",
        "train: 1 row left out, beyond the number of documents asked for",
        f"test: 1 row kept, duplicate pair ({tmp_path / 'test.jsonl'}:2)",
    ]


def test_columns_may_differ_between_files_unless_given(tmp_path: Path) -> None:
    files = {
        "train": [{"text": "a", "tldr": "x"}],
        "validation": [{"article": "b", "summaries": ["y", "z"]}],
        "test": [pair(1)],
    }
    assert load_rows(tmp_path, files).validation[0].references == ("y", "z")
    with pytest.raises(UserError, match=r"validation.jsonl: there is no column 'text'"):
        load_rows(tmp_path, files, document_column="text", summary_column="tldr")


def test_a_table_of_equal_ids_and_repeated_pairs_is_read_in_linear_time(tmp_path: Path) -> None:
    # 20,000 rows with one id take well under a second a pass when each costs the same; minutes when each searches.
    train = [pair(n, id="same") for n in range(10_000)] + [pair(0, id="same")] * 10_000
    dataset = load_rows(tmp_path, {"train": train, "validation": [pair(-1)], "test": [pair(-2)]})
    assert Counter(row.reason for row in dataset.dropped) == {"duplicate pair": 9_999 + 1}
    assert dataset.train[-1].id == "same-10000"


pieces = st.sampled_from(
    [
        b'{"text": "d%d", "summary": "s"}\n',
        b'"d%d,x",s\n',
        b"d%d,s\n",
        b"text,summary\n",
        b'"',
        b"\0",
        b"\xff",
        b"\r",
        b"\n",
    ]
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from([".jsonl", ".csv", ".tsv", ".parquet"]), st.lists(st.one_of(pieces, st.binary(max_size=6))))
def test_any_bytes_are_read_or_refused_in_one_sentence(extension: str, parts: list[bytes]) -> None:
    content = b"".join(part.replace(b"%d", str(at).encode()) for at, part in enumerate(parts))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{extension}")
        path.write_bytes(content)
        told = None
        try:
            dataset = load(DataSpec(train_file=str(path)))
        except UserError as error:
            told = str(error)
    if told is None:
        assert all(getattr(dataset, split) for split in SPLITS)
    else:
        assert told.startswith(str(path))
        assert "\n" not in told
