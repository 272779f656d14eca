"""The summary as a model: it survives JSON, and its sentences name the base model where there are several."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from support.verdict_study import load, study_folder
from tuneoff.results.summary import ComparisonRow, Confound, Interval, Summary
from tuneoff.verdict import summarize


@pytest.mark.parametrize("models", [("starter",), ("a/x", "b/y")])
def test_a_summary_survives_json(tmp_path: Path, models: tuple[str, ...]) -> None:
    summary = summarize(load(study_folder(tmp_path, models=models)))
    assert Summary.model_validate_json(summary.model_dump_json()) == summary


def test_sentences_name_the_model_where_there_are_several(tmp_path: Path) -> None:
    summary = summarize(load(study_folder(tmp_path, models=("a/x", "b/y"))))
    assert len(summary.verdicts) == 2
    expected = [f"{verdict.block}: {line}" for verdict in summary.verdicts for line in verdict.sentences]
    assert list(summary.sentences) == expected
    assert {line.partition(":")[0] for line in summary.sentences} == {"a/x", "b/y"}


def test_a_row_without_a_number_is_empty_and_not_zero() -> None:
    row = ComparisonRow(name="lora", title="LoRA", kind="method")
    assert row.score("rouge1") == Interval()
    assert row.score("rouge1").mean is None
    assert row.cost("train_seconds") is None


def test_a_confound_that_changes_scores_is_a_caution() -> None:
    confound = Confound(aspect="batch", model="m", changes_scores=True, description="runs differ")
    assert confound.sentence == "Caution: runs differ."
    assert confound.model_copy(update={"changes_scores": False}).sentence == "Runs differ."


def test_a_summary_cannot_be_changed() -> None:
    summary = Summary(name="a", created_at="", tuneoff_version="", primary_metric="rouge1")
    with pytest.raises(ValidationError):
        summary.name = "b"  # type: ignore[misc]
