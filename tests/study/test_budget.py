"""Budgets: what is planned fits, what is reduced is reported, and a plan that was made is kept."""

import json
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.results.json_files import json_text, write_text_atomic
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import Speed
from tuneoff.spec import DataSpec, GenerateSpec, ModelSpec, PromptSpec, StudySpec, TrainSpec, json_hash
from tuneoff.study import budget
from tuneoff.study.budget import DataSizes, FittedStudy, Speeds

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


def test_the_estimate_counts_every_run() -> None:
    """By hand: one method, one fraction, no trials, two seeds."""
    study = STUDY.model_copy(
        update={"methods": ("lora",), "trials": 0, "fractions": (1.0,), "seeds": 2, "train": TrainSpec(epochs=1)}
    )
    # 100 steps of 4 s, 150 validation examples once, 300 test examples
    expected = 2 * (2 + 100 * 4 + 150 * 0.1 + 300 * 0.5)
    assert budget.estimate(study, SIZES, SPEEDS) == pytest.approx(expected)
    # Two at a time, and then the timing run: 30 steps, 32 texts read and written.
    timing = 2 + 30 * 4 + 32 * (0.1 + 0.5)
    assert budget.estimate(study, SIZES, SPEEDS, processes=2) == pytest.approx(expected / 2 + timing)


def test_trials_are_estimated_as_if_none_was_pruned() -> None:
    """By hand: two methods, one fraction, two trials and a refinement trial each, 100 steps, rungs at 25 and 50."""
    update = {
        "methods": ("soft_prompt", "lora"),
        "trials": 2,
        "fractions": (1.0,),
        "seeds": 1,
        "train": TrainSpec(epochs=1),
    }
    study = STUDY.model_copy(update=update)
    halved = study.model_copy(update={"halving": True})
    checks = 2 * 3 * 2 * 150 * 0.1
    assert budget.estimate(halved, SIZES, SPEEDS) == pytest.approx(budget.estimate(study, SIZES, SPEEDS) + checks)
    # Concurrently, a round waits for its longest, and no trial for the next one of its method.
    alone = {"methods": ("lora",), "halving": True}
    one, three = (budget.estimate(study.model_copy(update=alone), SIZES, SPEEDS, processes=many) for many in (1, 3))
    trial, final = 2 + 100 * 4 + 3 * 150 * 0.1, 2 + 100 * 4 + 150 * 0.1 + 300 * 0.5
    timing = 2 + 30 * 4 + 32 * (0.1 + 0.5)
    assert one == pytest.approx(3 * trial + final)
    assert three == pytest.approx(3 * trial + final / 3 + timing)


def test_whatever_the_budget_the_plan_fits_or_says_that_it_does_not() -> None:
    whole = budget.estimate(STUDY, SIZES, SPEEDS)
    before = 0.0
    for part in (0.001, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0):
        plan = budget.fit(STUDY, SIZES, SPEEDS, part * whole)
        assert plan.fits == (plan.seconds <= part * whole)
        assert plan.seconds == pytest.approx(budget.estimate(plan.study, SIZES, SPEEDS))
        assert bool(plan.reduced) == (part < 1)
        assert plan.seconds >= before  # more time is used
        before = plan.seconds
    assert plan.study == STUDY


def test_the_smallest_study_can_still_be_judged() -> None:
    plan = budget.fit(STUDY, SIZES, SPEEDS, 1.0)
    assert not plan.fits
    assert (plan.study.seeds, plan.study.trials, plan.study.fractions) == (2, 0, (1.0,))
    assert (plan.study.data.max_test_documents, plan.study.data.max_validation_documents) == (10, 16)
    assert plan.study.train.max_steps == 10
    assert plan.reduced == (
        "validation documents 150 -> 16",
        "test documents 300 -> 10",
        "trials 4 -> 0 (every method keeps its default setting)",
        "fractions of the data 0.1, 0.3, 1 -> 1",
        "optimiser steps 300 -> 10",
        "seeds 3 -> 2",
    )


def test_the_third_seed_is_kept_long() -> None:
    """Steps, documents and all but one trial are reduced first: two seeds hardly show how much seeds differ."""
    whole = budget.estimate(STUDY, SIZES, SPEEDS)
    plans = [budget.fit(STUDY, SIZES, SPEEDS, whole * part / 400).study for part in range(1, 60)]
    assert {2, 3} == {plan.seeds for plan in plans}
    for plan in plans:
        if plan.seeds == 2:
            assert (plan.train.max_steps, plan.data.max_validation_documents) == (10, 16)
            assert plan.trials <= 1


def test_documents_that_outside_systems_wrote_for_are_not_reduced() -> None:
    plan = budget.fit(of(predictions={"api": "api.jsonl"}), SIZES, SPEEDS, 1.0)
    assert plan.study.data.max_test_documents is None
    assert not any("test documents" in line for line in plan.reduced)


def test_pruning_ends_with_the_search() -> None:
    plan = budget.fit(of(halving=True), SIZES, SPEEDS, 1.0)
    assert (plan.study.trials, plan.study.halving) == (0, False)
    StudySpec.model_validate(plan.study.model_dump())


def test_a_search_is_reduced_before_its_methods_are() -> None:
    """A trial and its refinement are kept as long as anything else can be reduced; then methods keep their defaults."""
    kept = [budget.fit(STUDY, SIZES, SPEEDS, seconds).study for seconds in range(50, 2050, 100)]
    assert {study.methods for study in kept} == {STUDY.methods}
    without = [study for study in kept if not study.trials]
    assert without
    assert all(study.train.max_steps is not None and study.train.max_steps <= 20 for study in without)
    assert [bool(study.trials) for study in kept] == sorted(bool(study.trials) for study in kept)


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
    budget.check_equal(STUDY, "examples")
    budget.check_equal(of(fractions=(1.0,)), "time")
    for study in (STUDY, of(fractions=(1.0,), models=(ModelSpec(name="a"), ModelSpec(name="b")))):
        with pytest.raises(UserError, match="--equal time"):
            budget.check_equal(study, "time")


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
