"""Real data, read in place where they are: see the README of the folder for sources and licences."""

from pathlib import Path

import pytest

from tuneoff.data import Dataset, load
from tuneoff.spec import DataSpec

FOLDER = Path(__file__).parents[3] / "shared" / "data"


def trial(name: str) -> Dataset:
    folder = FOLDER / name
    if not folder.is_dir():
        pytest.skip(f"no trial data {name}")
    return load(
        DataSpec(
            train_file=str(folder / "train.jsonl"),
            validation_file=str(folder / "val.jsonl"),
            test_file=str(folder / "test.jsonl"),
        )
    )


@pytest.mark.real
def test_scitldr_has_several_references_and_one_leak() -> None:
    dataset = trial("scitldr_a")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [1988, 618, 618]
    assert {len(example.references) for example in dataset.train} == {1}
    assert min(len(example.references) for example in dataset.test) == 2
    assert [(row.split, Path(row.where).name, row.reason) for row in dataset.dropped] == [
        ("validation", "val.jsonl:427", "document stands in test too")
    ]


@pytest.mark.real
def test_meqsum_is_clean() -> None:
    dataset = trial("meqsum")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [600, 100, 300]
    assert dataset.dropped == ()
