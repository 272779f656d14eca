"""Folders and archives with a file for each split."""

import json
import zipfile
from pathlib import Path

import pytest

from support.data_files import pair
from tuneoff.data import load_dataset
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec

LINES = {
    name: "".join(json.dumps(pair(number)) + "\n" for number in numbers)
    for name, numbers in {"train": range(4), "valid": range(4, 6), "test": range(6, 9)}.items()
}


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "valid.jsonl", "test.jsonl"),
        ("data/my_train.json", "data/my_dev.json", "data/my_test.json"),
        ("train/0.jsonl", "validation/0.jsonl", "test/0.jsonl"),
        ("train-00000-of-00001.jsonl", "val-00000-of-00001.jsonl", "test-00000-of-00001.jsonl"),
    ],
)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_the_files_of_the_splits_are_found_by_name(tmp_path: Path, names: tuple[str, ...], form: str) -> None:
    source = tmp_path / ("set" if form == "folder" else "set.zip")
    contents = dict(zip((*names, "README.md", ".hidden/train.jsonl"), (*LINES.values(), "x", "broken"), strict=True))
    if form == "zip":
        del contents[".hidden/train.jsonl"]
        with zipfile.ZipFile(source, "w") as archive:
            for name, text in contents.items():
                archive.writestr(name, text)
    else:
        for name, text in contents.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text)
    dataset = load_dataset(DataSpec(source=str(source)))
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [4, 2, 3]
    assert "held out" not in dataset.description


def test_several_files_of_a_split_are_read_one_after_another(tmp_path: Path) -> None:
    for part, numbers in enumerate((range(3), range(3, 5))):
        (tmp_path / f"train-{part}.jsonl").write_text("".join(json.dumps(pair(n)) + "\n" for n in numbers))
    (tmp_path / "test.jsonl").write_text(LINES["test"])
    dataset = load_dataset(DataSpec(source=str(tmp_path)))
    assert len(dataset.train) + len(dataset.validation) == 5


def test_a_single_file_is_training_data_and_two_without_a_split_are_not(tmp_path: Path) -> None:
    (tmp_path / "emails.jsonl").write_text(LINES["train"])
    assert len(load_dataset(DataSpec(source=str(tmp_path))).train) == 2
    (tmp_path / "others.jsonl").write_text(LINES["test"])
    with pytest.raises(
        UserError, match=r"no data file in it has `train` in its name \(there are: emails.jsonl, others.js"
    ):
        load_dataset(DataSpec(source=str(tmp_path)))


def test_one_split_in_two_formats_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(LINES["train"])
    (tmp_path / "train.csv").write_text("text,summary\na,b\n")
    with pytest.raises(UserError, match=r"train\.csv and train\.jsonl are both of the split train; name one of them"):
        load_dataset(DataSpec(source=str(tmp_path)))
