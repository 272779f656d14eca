"""The models of the files about a whole study: published files load, and keys of a later version are ignored."""

import json
from pathlib import Path

import pytest

from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import (
    DataFile,
    PlanFile,
    PruningCheck,
    PruningSavings,
    SearchCell,
    SearchFile,
    TrialResult,
)

RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize("name", ["coursework", "scitldr_a", "soft_prompt_epoch"])
def test_files_of_published_studies_load(name: str) -> None:
    folder = StudyDir(RESULTS / name)
    plan, data = folder.read_plan(), folder.read_data()
    assert plan is not None
    assert data is not None
    stored = json.loads((RESULTS / name / "plan.json").read_text(encoding="utf-8"))
    assert json.loads(plan.model_dump_json(exclude_none=True)) == stored
    assert plan.data == data.content_hash
    assert data.train_examples == 1988


def test_keys_of_a_later_version_are_ignored() -> None:
    assert PlanFile.model_validate({"runs": ["a"], "later": 1}) == PlanFile(runs=("a",))
    assert DataFile.model_validate({"later": 1}).train_examples == 0


def test_what_a_search_took() -> None:
    def cell(*seconds: float | None, saved: PruningSavings | None = None) -> SearchCell:
        trials = tuple(TrialResult(value=1.0, seconds=each, steps=10) for each in seconds)
        return SearchCell(model="m", method="lora", hyperparameter="learning_rate", trials=trials, saved=saved)

    assert (cell(1.0, 2.5).seconds, cell(1.0, 2.5).steps) == (3.5, 20)
    assert cell(1.0, None).seconds is None
    assert cell().seconds is None
    assert not SearchFile(cells=(cell(1.0),)).pruned
    assert SearchFile(cells=(cell(1.0), cell(1.0, saved=PruningSavings(steps=0)))).pruned


def test_the_loss_that_pruned_a_trial() -> None:
    checks = (
        PruningCheck(step=10, cut_above=2.0, validation_loss=1.5),
        PruningCheck(step=20, cut_above=1.0, validation_loss=1.25),
    )
    assert TrialResult(value=1.0, cut_at=20, rungs=checks).loss_when_pruned == 1.25
    assert TrialResult(value=1.0, rungs=checks).loss_when_pruned is None
