"""The starter set from its package or the hub, and the error if neither provides it."""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tuneoff.data import load_dataset, starter, starter_location, starter_present
from tuneoff.data.source_table import SourceRow, SourceTable
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec

installed = pytest.mark.skipif(not starter_present(), reason="the package aclsum is not installed")


@installed
@pytest.mark.real
def test_starter_counts_texts_and_aspects() -> None:
    dataset = load_dataset(DataSpec(source="starter"))
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(part) for part in parts] == [300, 150, 300]
    assert [len({example.group for example in part}) for part in parts] == [100, 50, 100]
    assert dataset.dropped == ()
    first = dataset.train[:3]
    assert [example.id for example in first] == ["P06-1112-challenge", "P06-1112-approach", "P06-1112-outcome"]
    assert [dict(example.fields) for example in first] == [
        {"aspect": "challenge"},
        {"aspect": "approach"},
        {"aspect": "outcome"},
    ]
    assert len({example.document for example in first}) == 1
    assert first[0].document.startswith("In this paper , we explore correlation of dependency relation paths")
    assert first[0].document.endswith("by up to 20 % in MRR .")
    assert first[2].references[0].startswith("The proposed method outperforms state-of-the-art")
    # Part of every run id: a new value means that the starter set is read differently.
    assert dataset.content_hash == "aa7004994a9c7780"
    assert "aclsum" not in sys.modules


@installed
@pytest.mark.real
def test_starter_can_be_limited_by_documents() -> None:
    dataset = load_dataset(DataSpec(source="starter", max_train_documents=10, max_test_documents=2))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (30, 150, 6)


@installed
def test_location_is_a_folder_with_the_files() -> None:
    location = starter_location()
    assert location is not None
    assert Path(location, "train.jsonl").is_file()


def uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    def distribution(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", distribution)


def test_without_package_the_hub_gives_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall(monkeypatch)
    asked: list[Any] = []

    def open_hub(name: str, **more: Any) -> dict[str, SourceTable]:
        asked.append((name, more))
        return {
            split: SourceTable(
                f"{name} {split}",
                "row",
                iter(
                    [
                        SourceRow(
                            1,
                            {
                                "id": f"P-{split}",
                                "sentences": {"abstract": [f"{split} one .", "Two ."], "conclusion": ["Not this ."]},
                                "summary": {"outcome": "o", "challenge": "c", "approach": "a"},
                            },
                        )
                    ]
                ),
            )
            for split in ("train", "validation", "test")
        }

    monkeypatch.setattr(starter, "open_hub", open_hub)
    dataset = load_dataset(DataSpec(source="starter"))
    assert asked == [("sobamchan/aclsum", {"revision": starter.HUB_REVISION, "nested": True})]
    assert [(e.id, e.document, e.references, dict(e.fields)) for e in dataset.test] == [
        ("P-test-challenge", "test one . Two .", ("c",), {"aspect": "challenge"}),
        ("P-test-approach", "test one . Two .", ("a",), {"aspect": "approach"}),
        ("P-test-outcome", "test one . Two .", ("o",), {"aspect": "outcome"}),
    ]


def test_without_package_and_hub_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall(monkeypatch)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert not starter_present()
    assert starter_location() is None
    with pytest.raises(UserError, match="run `tuneoff starter`"):
        load_dataset(DataSpec(source="starter"))


def test_another_package_of_that_name_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in starter.FILES.values():
        (tmp_path / name).write_text(json.dumps({"id": "x", "text": "y"}) + "\n")
    monkeypatch.setattr(starter, "starter_location", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"not the one of aclsum 0\.1\.2"):
        load_dataset(DataSpec(source="starter"))
