"""Budgets: what is planned fits, what is reduced is reported, and a plan that was made is kept."""

import dataclasses
import json
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.results.json_files import json_text, write_text_atomic
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import Speed
from tuneoff.spec import DataSpec, GenerateSpec, ModelSpec, PromptSpec, StudySpec, TrainSpec, json_hash
from tuneoff.study import allocation, budget
from tuneoff.study.budget import FittedStudy
from tuneoff.study.duration import DataSizes, Speeds, estimate

METHODS = ("zero_shot", "few_shot", "soft_prompt", "lora", "full")
SIZES = DataSizes(
    train_examples=800, validation_examples=150, validation_documents=150, test_examples=300, test_documents=300
)
STUDY = StudySpec(
    models=(ModelSpec(name="tiny"),),
    methods=METHODS,
    seeds=3,
    fractions=(0.1, 0.3, 1.0),
    trials=4,
    data=DataSpec(source="starter"),
    prompt=PromptSpec(max_length=128),
    train=TrainSpec(epochs=3),
    generate=GenerateSpec(max_new_tokens=8),
)
SPEEDS: Speeds = {
    ("tiny", name): Speed(start=2, step=1.0 * (index + 1), check=0.1, write=0.5) for index, name in enumerate(METHODS)
}


def of(**settings: object) -> StudySpec:
    """The study with other settings."""
    return STUDY.model_copy(update=settings)


def test_whatever_the_budget_the_plan_fits_or_says_that_it_does_not() -> None:
    whole = estimate(STUDY, SIZES, SPEEDS)
    for part in (0.001, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0):
        plan = budget.fit(STUDY, SIZES, SPEEDS, part * whole)
        assert plan.fits == (plan.seconds <= part * whole)
        assert plan.seconds == pytest.approx(estimate(plan.study, SIZES, SPEEDS))
        assert bool(plan.reduced) == (part < 1)
    assert plan.study == STUDY


def test_the_smallest_study_can_still_be_judged() -> None:
    plan = budget.fit(STUDY, SIZES, SPEEDS, 1.0)
    assert not plan.fits
    assert (plan.study.seeds, plan.study.trials, plan.study.fractions) == (1, 0, (1.0,))
    assert (plan.study.scored_documents, plan.study.data.max_validation_documents) == ((10,), 16)
    assert plan.study.train.max_steps == 10
    assert plan.reduced == (
        "validation documents 150 -> 16",
        "test documents 300 -> 10",
        "trials 4 -> 0 (every method keeps its default setting)",
        "fractions of the data 0.1, 0.3, 1 -> 1",
        "optimiser steps 300 -> 10",
        "seeds 3 -> 1",
    )


def test_what_a_longer_time_would_detect_is_known() -> None:
    plan = budget.fit(STUDY, SIZES, SPEEDS, 1.0)
    hour, night = plan.longer
    assert (hour.time, hour.seconds, night.seconds) == ("an hour", 3600, 36_000)
    assert night.difference < hour.difference < allocation.smallest_difference(STUDY, 10, 1)
    again = budget.fit(STUDY, SIZES, SPEEDS, 3600.0).study
    assert (again.scored_documents, again.seeds) == ((hour.documents,), hour.seeds)
    assert budget.fit(STUDY, SIZES, SPEEDS, 40_000.0).longer == ()
    assert budget.fit(of(methods=("lora",)), SIZES, SPEEDS, 1.0).longer == ()  # nothing to compare


def test_below_the_floor_the_time_of_the_floor_is_known() -> None:
    below = budget.fit(STUDY, SIZES, SPEEDS, 200.0)
    assert below.floor_seconds is not None
    floor = budget.fit(STUDY, SIZES, SPEEDS, below.floor_seconds)
    assert floor.floor_seconds is None
    assert floor.seconds == pytest.approx(below.floor_seconds)
    assert floor.study.scored_documents == (30,)


def test_documents_that_outside_systems_wrote_for_are_not_reduced() -> None:
    plan = budget.fit(of(predictions={"api": "api.jsonl"}), SIZES, SPEEDS, 1.0)
    assert (plan.study.data.max_test_documents, plan.study.scored_documents) == (None, ())
    assert not any("test documents" in line for line in plan.reduced)


def test_pruning_ends_with_the_search() -> None:
    plan = budget.fit(of(halving=True), SIZES, SPEEDS, 1.0)
    assert (plan.study.trials, plan.study.halving) == (0, False)
    StudySpec.model_validate(plan.study.model_dump())


def test_trials_that_a_limit_leaves_too_few_steps_are_not_pruned() -> None:
    """Otherwise the study would be refused, because of what the limit has left of it."""
    asked = ASKED.model_copy(update={"halving": True, "trials": 2})
    for steps, prunes in ((8, False), (9, True)):
        size = dataclasses.replace(allocation.size_of(asked, SIZES), steps=steps)
        found = allocation.resized(asked, size, SIZES)
        assert found.halving == prunes
        stored = budget.with_settings_of(found, asked)
        assert stored.halving == prunes
        assert ("no trial is pruned: each has too few steps" in budget.reductions(asked, found, SIZES)) != prunes


def test_equal_time_is_equal() -> None:
    whole = of(fractions=(1.0,))
    study = budget.with_equal_time(whole, SIZES, SPEEDS)
    assert set(study.steps) == {"soft_prompt", "lora", "full"}
    spent = {name: steps * SPEEDS["tiny", name].step for name, steps in study.steps.items()}
    longest_step = max(speed.step for speed in SPEEDS.values())
    assert max(spent.values()) - min(spent.values()) <= longest_step
    plan = budget.fit(whole, SIZES, SPEEDS, 4000.0, equal="time")
    kept = [plan.study.steps[name] / study.steps[name] for name in study.steps]
    assert max(kept) < 1
    assert max(kept) == pytest.approx(min(kept), rel=0.1)


def test_equal_time_without_a_limit_is_planned_and_reduces_nothing() -> None:
    plan = budget.fit(of(fractions=(1.0,)), SIZES, SPEEDS, None, equal="time")
    assert (plan.fits, plan.reduced) == (True, ())
    assert plan.study == budget.with_equal_time(of(fractions=(1.0,)), SIZES, SPEEDS)


def test_equal_time_needs_one_model_and_all_the_data() -> None:
    budget.check_limits(STUDY, None, "examples")
    budget.check_limits(of(fractions=(1.0,)), None, "time")
    for study in (STUDY, of(fractions=(1.0,), models=(ModelSpec(name="a"), ModelSpec(name="b")))):
        with pytest.raises(UserError, match="--equal time"):
            budget.check_limits(study, None, "time")
    folds = of(data=DataSpec(train_file="x", folds=3), fractions=(1.0,))
    budget.check_limits(folds, None, "examples")
    with pytest.raises(UserError, match="--budget: does not plan the runs of --folds"):
        budget.check_limits(folds, 60.0, "examples")
    with pytest.raises(UserError, match="--equal time: does not plan the runs of --folds"):
        budget.check_limits(folds, None, "time")


# budget.json

ASKED = StudySpec(data=DataSpec(source="starter"), trials=4, seeds=3)
PLAN = FittedStudy(
    ASKED.model_copy(update={"trials": 2, "seeds": 2}),
    1100.0,
    ("trials 4 -> 2 (and a refinement trial)", "seeds 3 -> 2"),
    True,
)


@pytest.fixture
def folder(tmp_path: Path) -> StudyDir:
    """The folder of a study that was fitted into 20 minutes."""
    found = StudyDir(tmp_path)
    speeds = {("starter", "lora"): Speed(start=1, step=2, check=3, write=4)}
    found.write_budget(budget.budget_file(PLAN, ASKED, 1200.0, "examples", speeds))
    return found


def test_a_plan_is_kept_for_its_own_request(folder: StudyDir) -> None:
    stored = folder.read_budget()
    assert stored is not None
    assert [(one.model, one.method, one.write) for one in stored.measured] == [("starter", "lora", 4)]
    assert budget.earlier_plan(stored, ASKED, 1200.0, "examples") == PLAN
    assert budget.earlier_plan(stored, ASKED, 600.0, "examples") is None
    assert budget.earlier_plan(stored, ASKED, 1200.0, "time") is None
    assert budget.earlier_plan(stored, PLAN.study, 1200.0, "examples") is None
    assert budget.earlier_plan(None, ASKED, 1200.0, "examples") is None


def test_a_plan_without_trials_prunes_nothing(tmp_path: Path) -> None:
    asked = ASKED.model_copy(update={"halving": True})
    planned = asked.model_copy(update={"trials": 0, "halving": False, "scored_documents": (30,)})
    StudyDir(tmp_path).write_budget(
        budget.budget_file(FittedStudy(planned, 1.0, (), True), asked, 1200.0, "examples", {})
    )
    found = budget.earlier_plan(StudyDir(tmp_path).read_budget(), asked, 1200.0, "examples")
    assert found is not None
    assert found.study == planned


def test_a_plan_from_before_pruning_is_kept(folder: StudyDir) -> None:
    asked = ASKED.without_paths().model_dump(mode="json")
    del asked["halving"]
    before = json_hash({"study": asked, "seconds": 1200.0, "equal": "examples"})
    stored = folder.read_budget()
    assert stored is not None
    assert stored.asked == before
    assert budget.earlier_plan(stored, ASKED.model_copy(update={"halving": True}), 1200.0, "examples") is None


def test_a_file_of_an_earlier_version_is_read(folder: StudyDir) -> None:
    """It has neither the limit nor the kind of effort."""
    path = folder.path / "budget.json"
    kept = json.loads(path.read_text())
    (folder.path / "manifest.json").unlink()  # nor digests
    write_text_atomic(path, json_text({key: kept[key] for key in kept.keys() - {"budget_seconds", "equal"}}))
    stored = folder.read_budget()
    assert stored is not None
    assert (stored.budget_seconds, stored.equal, stored.seconds) == (None, "examples", 1100)
    assert budget.earlier_plan(stored, ASKED, 1200.0, "examples") == PLAN
