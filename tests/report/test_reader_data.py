"""What the page's reader holds of a large study: as many documents as fit, evenly spaced, and then fewer seeds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.report_study import edit_spec, load
from support.verdict_study import divide_into_folds
from tuneoff.report import reader_data as module
from tuneoff.report.escaping import embedded_json
from tuneoff.report.reader_data import ReaderData, reader_data
from tuneoff.report.study_charts import method_styles
from tuneoff.results.study_dir import StudyDir
from tuneoff.verdict.summarize import summarize


def data_of(folder: Path) -> ReaderData:
    study = load(folder)
    summary = summarize(study)
    return reader_data(summary, study, method_styles(summary, study))


@pytest.fixture
def folder(fake_study: Callable[..., Path]) -> Path:
    return fake_study(documents=40, seeds=3, methods=("zero_shot", "lora"))


def bytes_of(data: ReaderData) -> int:
    return len(embedded_json(data.content).encode())


def test_a_study_that_fits_is_shown_whole(folder: Path) -> None:
    data = data_of(folder)
    assert data.left_out is None
    assert len(data.content["documents"]) == 40


def test_evenly_spaced_documents_of_a_study_that_does_not_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = data_of(folder)
    monkeypatch.setattr(module, "MOST_BYTES", bytes_of(whole) // 2)
    monkeypatch.setattr(module, "_WANTED_DOCUMENTS", 10)
    half = data_of(folder)
    shown = [one["id"] for one in half.content["documents"]]
    every = [one["id"] for one in whole.content["documents"]]
    assert 15 < len(shown) < 25
    assert shown == [every[index * 40 // len(shown)] for index in range(len(shown))]
    assert half.left_out == f"{len(shown)} of the 40 test documents, evenly spaced"
    assert bytes_of(half) < 0.6 * bytes_of(whole)
    for before, after in zip(whole.content["systems"], half.content["systems"], strict=True):
        for all_texts, texts in zip(before["outputs"], after["outputs"], strict=True):
            assert texts["texts"] == [all_texts["texts"][every.index(key)] for key in shown]


def test_seeds_are_left_out_where_they_leave_room_for_few_documents(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = data_of(folder)
    monkeypatch.setattr(module, "MOST_BYTES", int(bytes_of(whole) * 0.85))
    fewer = data_of(folder)
    assert fewer.left_out == "2 of up to 3 seeds of each method"
    lora = next(system for system in fewer.content["systems"] if system["label"] == "LoRA")
    assert [output["seed"] for output in lora["outputs"]] == [0, 1]


BOOK = "A sentence of a book. " * 7_000  # 154 kB


def with_books(folder: Path, *positions: int) -> Path:
    """Make books of the documents at these positions."""
    documents = load(folder).documents
    StudyDir(folder).write_documents(
        one.model_copy(update={"document": BOOK}) if index in positions else one for index, one in enumerate(documents)
    )
    return folder


def test_a_few_long_documents_are_cut_wherever_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 200_000)
    monkeypatch.setattr(module, "_MEASURED_DOCUMENTS", 4)  # the documents 0, 10, 20 and 30
    for positions in ((3, 17), (10, 20)):
        data = data_of(with_books(folder, *positions))
        assert bytes_of(data) <= module.MOST_BYTES
        assert data.left_out == "at most 4,000 characters of each text"
        assert len(data.content["documents"]) == 40


def test_one_long_document_is_not_taken_for_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_books(folder, 10)
    monkeypatch.setattr(module, "_MEASURED_DOCUMENTS", 4)
    monkeypatch.setattr(module, "MOST_BYTES", bytes_of(data_of(folder)) + 1_000)
    assert data_of(folder).left_out is None


@pytest.mark.parametrize("length", [len(BOOK), 900])
def test_outputs_that_are_longer_than_estimated_are_cut(
    length: int, fake_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fake_study(documents=40, methods=("zero_shot",), outside={"api": "An API"})
    monkeypatch.setattr(module, "_MEASURED_DOCUMENTS", 4)
    monkeypatch.setattr(module, "MOST_BYTES", bytes_of(data_of(folder)) + 5_000)
    rows = [
        row if index % 10 == 0 else row.model_copy(update={"text": BOOK[:length]})
        for index, row in enumerate(load(folder).outside["api"])
    ]
    StudyDir(folder).write_outside({"api": rows})
    data = data_of(folder)
    assert bytes_of(data) <= module.MOST_BYTES
    shown = len(data.content["documents"])
    assert 1 < shown < 40
    fewer = f"{shown} of the 40 test documents, evenly spaced"
    # A text of 900 characters is shorter than any limit of lengths.
    assert data.left_out == (f"{fewer} and at most 1,000 characters of each text" if length > 900 else fewer)


def test_folds_of_a_seed_are_one_set_of_outputs(folder: Path) -> None:
    whole = data_of(folder)
    divide_into_folds(folder, 4)
    edit_spec(folder, data={"train_file": "x", "folds": 4})
    assert data_of(folder).content["systems"] == whole.content["systems"]


def test_a_study_without_texts_has_ids_and_scores(
    fake_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fake_study(documents=40, texts=False, methods=("zero_shot", "lora"))
    data = data_of(folder)
    assert not data.content["readable"]
    assert data.left_out is None
    assert [one["id"] for one in data.content["documents"]] == [one.id for one in load(folder).documents]
    assert not any(one["text"] or any(one["references"]) for one in data.content["documents"])
    scores = next(run for run in load(folder).runs if run.name.startswith("lora-")).outputs.scores("rouge1")
    lora = next(system for system in data.content["systems"] if system["label"] == "LoRA")
    assert lora["outputs"] == []
    assert lora["means"] == pytest.approx(list(scores.values()), abs=1e-3)
    monkeypatch.setattr(module, "MOST_BYTES", bytes_of(data) // 2)
    assert len(data_of(folder).content["documents"]) < 40


def test_a_folder_of_records_alone_has_no_documents(folder: Path) -> None:
    for name in ("manifest.json", "predictions.jsonl", "documents.jsonl"):
        for file in folder.rglob(name):
            file.unlink()
    data = data_of(folder)
    assert (data.content["documents"], data.content["readable"], data.left_out) == ([], False, None)
