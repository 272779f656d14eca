"""Rows of one document with different summaries: scored alone with a caution, or joined as references."""

import json
from pathlib import Path
from typing import Any

from tuneoff.data import Dataset, load_dataset
from tuneoff.spec import DataSpec

ROWS: list[dict[str, Any]] = [
    {"id": "a", "document": "one", "summary": "first", "kind": "x"},
    {"id": "b", "document": "two", "summary": "other", "kind": "x"},
    {"id": "c", "document": "one", "summary": ["second", "first"], "kind": "y"},
    {"id": "d", "document": "one", "summary": "third", "kind": "x"},
]


def load(folder: Path, fields: tuple[str, ...] = (), **settings: Any) -> Dataset:
    others: list[dict[str, Any]] = [{"document": f"text {number}", "summary": "s", "kind": "x"} for number in range(6)]
    others += [{**row, "document": f"t {row['document']}"} for row in ROWS]
    for name, rows in {"train": others, "test": ROWS}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    spec = DataSpec(train_file=str(folder / "train.jsonl"), test_file=str(folder / "test.jsonl"), **settings)
    return load_dataset(spec, fields)


def test_rows_are_examples_and_a_caution_names_the_flag(tmp_path: Path) -> None:
    data = load(tmp_path)
    assert [example.id for example in data.test] == ["a", "b", "c", "d"]
    (caution,) = [text for text in data.cautions if "--repeated-documents" in text]
    assert caution.startswith("test: 1 document has several rows with different summaries")
    confirmed = load(tmp_path, repeated_documents="examples")
    assert not any("--repeated-documents" in text for text in confirmed.cautions)
    assert confirmed.content_hash == data.content_hash


def test_rows_are_joined_as_references(tmp_path: Path) -> None:
    data = load(tmp_path, repeated_documents="references")
    assert [(example.id, example.references) for example in data.test] == [
        ("a", ("first", "second", "third")),
        ("b", ("other",)),
    ]
    assert len(data.train) + len(data.validation) == 10
    assert "test 2 pairs of 2 documents" in data.description
    assert not any("--repeated-documents" in text for text in data.cautions)
    assert data.content_hash != load(tmp_path).content_hash


def test_rows_that_differ_in_a_field_of_the_instruction_stay_apart(tmp_path: Path) -> None:
    data = load(tmp_path, ("kind",), repeated_documents="references")
    assert [(example.id, example.references) for example in data.test] == [
        ("a", ("first", "third")),
        ("c", ("second", "first")),
        ("b", ("other",)),
    ]


def test_what_is_held_out_is_joined_too(tmp_path: Path) -> None:
    rows = [{"document": f"text {number % 10}", "summary": f"s {number}"} for number in range(20)]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = load_dataset(DataSpec(train_file=str(path), test_share=4, repeated_documents="references"))
    assert [len(example.references) for example in data.test] == [2] * 4
    assert [len(example.references) for example in data.train] == [1] * 2 * (10 - 4 - len(data.validation))
