import json
from pathlib import Path

import pytest

from tuneoff.data.byte_source import file_source
from tuneoff.data.json_splits import json_splits
from tuneoff.data.load import load_dataset
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec


def rows(start: int, count: int) -> list[dict[str, str]]:
    return [
        {"text": f"Document number {at} of this file.", "summary": f"Number {at}."}
        for at in range(start, start + count)
    ]


def test_splits_under_their_names_are_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text(
        json.dumps({"version": 2, "train": rows(0, 20), "dev": rows(20, 6), "test": rows(26, 10)}, indent=1)
    )
    dataset = load_dataset(DataSpec(source=str(path)))
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [20, 6, 10]
    assert dataset.test[0].document == "Document number 26 of this file."


@pytest.mark.parametrize("text", ['{"a": [{"text": "b"}]}', '[{"train": []}]', '{"train": "words"}'])
def test_other_files_hold_no_splits(tmp_path: Path, text: str) -> None:
    path = tmp_path / "all.json"
    path.write_text(text)
    assert json_splits(file_source(path)) is None
    with pytest.raises(UserError, match="name it with --train-file"):
        load_dataset(DataSpec(source=str(path)))


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ([], " test: has no rows"),
        ([*rows(26, 10), None], " test, row 11: .* an object was expected"),
        (["a"], " test: no column"),
    ],
)
def test_a_split_is_never_left_out(tmp_path: Path, test: list[object], reason: str) -> None:
    path = tmp_path / "all.json"
    path.write_text(json.dumps({"train": rows(0, 20), "dev": rows(20, 6), "test": test}))
    with pytest.raises(UserError, match=f"all.json{reason}"):
        load_dataset(DataSpec(source=str(path)))


def test_splits_without_training_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text(json.dumps({"test": rows(0, 3)}))
    with pytest.raises(UserError, match="it has no split 'train' to train on"):
        load_dataset(DataSpec(source=str(path)))
