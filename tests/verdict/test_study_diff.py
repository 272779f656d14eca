"""Two studies compared: drift of the training and drift of the scoring are separated."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.verdict_study import (
    divide_into_folds,
    edit_predictions,
    edit_spec,
    load,
    run_dirs,
    study_folder,
    write_spec,
)
from tuneoff.cli.verdicts import diff_output
from tuneoff.errors import UserError
from tuneoff.results.run_record import Document, Prediction
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import DataFile
from tuneoff.verdict.study_diff import diff


@pytest.fixture
def other(texts_study: Path, tmp_path: Path) -> Path:
    """A copy of the study."""
    return Path(shutil.copytree(texts_study, tmp_path / "other"))


def rename_documents(study: Path, position: slice) -> None:
    for folder in run_dirs(study)[position]:
        edit_predictions(folder, lambda row: row.model_copy(update={"id": f"other {row.id}"}))


def raised(points: float, text: str = "") -> object:
    def change(row: Prediction) -> Prediction:
        score = (row.scores["rouge1"] or 0) + points
        return row.model_copy(update={"text": row.text + text, "scores": {"rouge1": score}})

    return change


def test_drift_is_separated(texts_study: Path, other: Path) -> None:
    edit_predictions(StudyDir(other).run_dir("starter-lora-s0"), raised(1))  # type: ignore[arg-type]
    edit_predictions(StudyDir(other).run_dir("starter-full-s0"), raised(2, "!"))  # type: ignore[arg-type]
    found = diff(load(texts_study), load(other))
    runs = {run.run: run for run in found.runs}
    lora, full = runs["starter/lora/seed 0/fraction 1"], runs["starter/full/seed 0/fraction 1"]
    assert (lora.training, lora.scoring, lora.same_texts) == pytest.approx((0, 1, 1))
    assert (full.training, full.scoring, full.same_texts) == pytest.approx((2, 0, 0))
    equal = runs["starter/lora/seed 1/fraction 1"]
    assert (equal.total, equal.same_texts) == (0, 1)
    assert any(
        "+2.00 points of ROUGE-1 (starter/full/seed 0/fraction 1): +2.00 from texts" in line for line in found.sentences
    )


def test_runs_without_a_common_document_have_no_number(texts_study: Path, other: Path) -> None:
    rename_documents(other, slice(1, None))
    found = diff(load(texts_study), load(other))
    assert [run.total is None for run in found.runs] == [run.documents == 0 for run in found.runs]
    assert sum(run.total is None for run in found.runs) == len(run_dirs(other)) - 1
    assert "Runs without a number have no scored test document in common." in found.sentences
    assert not any("texts were not kept" in sentence for sentence in found.sentences)
    rename_documents(other, slice(0, 1))
    with pytest.raises(UserError, match="have no test document in common"):
        diff(load(texts_study), load(other))


def with_documents(study: Path, change: Callable[[int, Document], Document]) -> None:
    documents = StudyDir(study).read_documents()
    StudyDir(study).write_documents(change(position, row) for position, row in enumerate(documents))


def test_documents_with_the_same_id_and_other_texts_are_not_compared(texts_study: Path, other: Path) -> None:
    """Rows that are numbered have equal ids in two data sets."""
    with_documents(texts_study, lambda _, row: row.model_copy(update={"document": f"text of {row.group}"}))
    with_documents(
        other,
        lambda position, row: row.model_copy(update={"document": f"text of {row.group}{'!' * (position >= 30)}"}),
    )
    for folder in run_dirs(other):
        edit_predictions(folder, raised(3, "!") if "lora" in folder.name else raised(0))  # type: ignore[arg-type]
    found = diff(load(texts_study), load(other))
    assert (found.documents.first, found.documents.second, found.documents.shared) == (40, 40, 30)
    assert {run.documents for run in found.runs} == {30}
    assert found.sentences[0] == (
        "The test documents differ: 30 are in both studies, of 40 and 40; 10 ids in both with other texts. Only those "
        "in both are compared."
    )
    with_documents(other, lambda _, row: row.model_copy(update={"document": "all other"}))
    with pytest.raises(UserError, match=r"no test document in common \(40 ids in both, with other texts\); compare"):
        diff(load(texts_study), load(other))


def test_other_references_make_another_document(texts_study: Path, other: Path) -> None:
    for study in (texts_study, other):
        with_documents(study, lambda _, row: row.model_copy(update={"document": "a  text"}))
    assert diff(load(texts_study), load(other)).documents.all_shared
    with_documents(
        other,
        lambda position, row: row.model_copy(update={"document": "a text", "references": ("x",) * (position + 1)}),
    )
    with pytest.raises(UserError, match="40 ids in both"):
        diff(load(texts_study), load(other))


def test_without_texts_documents_are_the_same_by_their_group(texts_study: Path, other: Path) -> None:
    with_documents(other, lambda position, row: row.model_copy(update={"references": (), "group": f"g{position // 2}"}))
    assert diff(load(texts_study), load(other)).documents.all_shared
    with_documents(other, lambda position, row: row.model_copy(update={"group": f"h{position}"}))
    with pytest.raises(UserError, match="40 ids in both"):
        diff(load(texts_study), load(other))


def test_other_training_data_are_said(texts_study: Path, other: Path) -> None:
    StudyDir(texts_study).write_data(DataFile(content_hash="a"))
    StudyDir(other).write_data(DataFile(content_hash="a"))
    assert not any("data differ" in line for line in diff(load(texts_study), load(other)).sentences)
    StudyDir(other).write_data(DataFile(content_hash="b"))
    assert (
        diff(load(texts_study), load(other)).sentences[0].startswith("The data differ, so a difference can come from")
    )
    assert "  training or data  +0.00" in diff_output(texts_study, other, as_json=False)


def test_without_texts_drift_cannot_be_separated(texts_study: Path, other: Path) -> None:
    for folder in run_dirs(other):
        edit_predictions(folder, lambda row: row.without_text())
    found = diff(load(texts_study), load(other))
    assert all((run.total, run.training, run.scoring) == (0, None, None) for run in found.runs)
    assert any("texts were not kept" in sentence for sentence in found.sentences)


def test_settings_that_are_not_listed_are_counted(texts_study: Path, other: Path) -> None:
    for folder in run_dirs(other):
        train = {"epochs": 9.0, "max_steps": 9, "min_steps": 9, "batch_size": 9, "warmup": 0.9, "patience": 9}
        edit_spec(folder, train=folder.read_record().spec.train.model_copy(update=train))
    found = diff(load(texts_study), load(other))
    assert any(line.startswith("train.epochs: ") for line in found.settings)
    assert any("; and 1 more (--json lists all)." in sentence for sentence in found.sentences)


def test_runs_of_one_study_are_named(texts_study: Path, other: Path) -> None:
    shutil.rmtree(StudyDir(other).run_dir("starter-full-s1").path)
    found = diff(load(texts_study), load(other))
    assert (found.only_first, found.only_second) == (("starter/full/seed 1/fraction 1",), ())


def test_studies_without_a_common_run_are_refused(texts_study: Path, tmp_path: Path) -> None:
    other_model = study_folder(tmp_path / "b", models=("org/other",))
    with pytest.raises(UserError, match="have no finished run in common"):
        diff(load(texts_study), load(other_model))


def test_a_folder_without_runs_is_refused(texts_study: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no finished run"):
        diff(load(texts_study), load(tmp_path / "none"))


def test_the_metric_of_the_first_study_is_compared(texts_study: Path, other: Path) -> None:
    def raised_rouge_l(row: Prediction) -> Prediction:
        return row.model_copy(update={"scores": {**row.scores, "rougeL": (row.scores["rougeL"] or 0) + 1}})

    write_spec(texts_study, metric="rougeL")
    edit_predictions(StudyDir(other).run_dir("starter-lora-s0"), raised_rouge_l)
    found = diff(load(texts_study), load(other))
    assert found.metric == "rougeL"
    assert next(run.total for run in found.runs if run.run == "starter/lora/seed 0/fraction 1") == pytest.approx(1)
    assert "The first study is judged by ROUGE-L, the second by ROUGE-1; ROUGE-L is compared." in found.sentences
    assert any("+1.00 points of ROUGE-L" in sentence for sentence in found.sentences)


def test_documents_without_a_score_of_the_metric_have_no_number(texts_study: Path, other: Path) -> None:
    for folder in run_dirs(other):
        edit_predictions(folder, lambda row: row.model_copy(update={"scores": {}}))
    found = diff(load(texts_study), load(other))
    assert {run.total for run in found.runs} == {None}


def test_folds_are_compared_one_by_one(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    divide_into_folds(study)
    runs = diff(load(study), load(study)).runs
    assert len(runs) == len({run.run for run in runs}) == 10
    assert {run.documents for run in runs} == {20}
