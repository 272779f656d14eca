"""Budgets: what is planned fits, what gives way is told, and a plan that was made is kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuneoff.study.budget_file import Speed, Speeds, as_data
from tuneoff.study.duration import parse_duration

from tuneoff.cli import main
from tuneoff.errors import UserError
from tuneoff.results.run_record import read_record, run_folders
from tuneoff.spec import DataSpec, GenerateSpec, ModelSpec, PromptSpec, StudySpec, TrainSpec, json_hash
from tuneoff.study import budget, budget_file
from tuneoff.study.runner import Prepared, prepare

METHODS = ("zero_shot", "few_shot", "soft_prompt", "lora", "full")


@pytest.fixture
def prepared(tiny_model: Callable[[str], Path], tmp_path: Path) -> Prepared:
    """A study of some size on documents that nobody reads."""
    files = {}
    for split, count in (("train", 800), ("validation", 150), ("test", 300)):
        rows = [{"document": f"{split} text {number}", "summary": f"word {number}"} for number in range(count)]
        files[split] = tmp_path / f"{split}.jsonl"
        files[split].write_text("\n".join(map(json.dumps, rows)))
    study = StudySpec(
        models=(ModelSpec(name=str(tiny_model("llama"))),),
        methods=METHODS,
        seeds=3,
        fractions=(0.1, 0.3, 1.0),
        trials=4,
        data=DataSpec(
            train_file=str(files["train"]), validation_file=str(files["validation"]), test_file=str(files["test"])
        ),
        prompt=PromptSpec(max_length=128),
        train=TrainSpec(epochs=3),
        generate=GenerateSpec(max_new_tokens=8),
    )
    return prepare(study, tmp_path / "study")


def speeds_of(prepared: Prepared, step: float = 1.0) -> dict[tuple[str, str], Speed]:
    [model] = prepared.study.models
    return {
        (model.name, name): Speed(start=2, step=step * (place + 1), check=0.1, write=0.5)
        for place, name in enumerate(METHODS)
    }


def test_times_are_read() -> None:
    written = {"20m": 1200, "90s": 90, "1h30m": 5400, "1.5h": 5400, "15min": 900, "1h 5m": 3900}
    assert {text: parse_duration(text) for text in written} == written


@pytest.mark.parametrize("text", ["", "20", "m", "0m", "-5m", "1d", "1.2.3m", "5m1h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="such as 20m"):
        parse_duration(text)


def test_the_estimate_counts_every_run(prepared: Prepared) -> None:
    """By hand: one method, one share, no trials, two seeds."""
    study = prepared.study.model_copy(
        update={"methods": ("lora",), "trials": 0, "fractions": (1.0,), "seeds": 2, "train": TrainSpec(epochs=1)}
    )
    # 100 steps of 4 s, 150 validation examples once, 300 test examples
    expected = 2 * (2 + 100 * 4 + 150 * 0.1 + 300 * 0.5)
    assert budget.estimate(study, prepared, speeds_of(prepared)) == pytest.approx(expected)
    # Two at a time, and then the timing run: 30 steps, 32 texts read and written.
    timing = 2 + 30 * 4 + 32 * (0.1 + 0.5)
    assert budget.estimate(study, prepared, speeds_of(prepared), processes=2) == pytest.approx(expected / 2 + timing)


def test_halved_trials_are_counted_as_if_none_was_cut(prepared: Prepared) -> None:
    """By hand: two methods, one share, two trials and a reserve one each, 100 steps, rungs at 25 and 50."""
    update = {
        "methods": ("soft_prompt", "lora"),
        "trials": 2,
        "fractions": (1.0,),
        "seeds": 1,
        "train": TrainSpec(epochs=1),
    }
    study = prepared.study.model_copy(update=update)
    halved = study.model_copy(update={"halving": True})
    speeds = speeds_of(prepared)  # steps of 3 and 4 s
    looks = 2 * 3 * 2 * 150 * 0.1
    assert budget.estimate(halved, prepared, speeds) == pytest.approx(budget.estimate(study, prepared, speeds) + looks)
    # Side by side a round waits for its longest, and no trial for the next one of its method.
    alone = {"methods": ("lora",), "halving": True}
    one, three = (budget.estimate(study.model_copy(update=alone), prepared, speeds, processes=many) for many in (1, 3))
    trial, final = 2 + 100 * 4 + 3 * 150 * 0.1, 2 + 100 * 4 + 150 * 0.1 + 300 * 0.5
    timing = 2 + 30 * 4 + 32 * (0.1 + 0.5)
    assert one == pytest.approx(3 * trial + final)
    assert three == pytest.approx(3 * trial + final / 3 + timing)


def test_a_plan_from_before_halving_is_kept(prepared: Prepared) -> None:
    asked = prepared.study.without_paths().model_dump(mode="json")
    del asked["halving"]
    before = json_hash({"study": asked, "seconds": 60.0, "equal": "examples"})
    plan = budget.choose(prepared, speeds_of(prepared), 60.0)
    prepared.folder.mkdir(parents=True)
    kept = as_data(plan, prepared.study, 60.0, "examples", {}) | {"asked": before}
    (prepared.folder / "budget.json").write_text(json.dumps(kept))
    assert budget_file.earlier(prepared.folder, prepared.study, 60.0, "examples") == plan
    halved = prepared.study.model_copy(update={"halving": True})
    assert budget_file.earlier(prepared.folder, halved, 60.0, "examples") is None


def test_whatever_the_budget_the_plan_fits_or_says_that_it_does_not(prepared: Prepared) -> None:
    speeds = speeds_of(prepared)
    whole = budget.estimate(prepared.study, prepared, speeds)
    before = 0.0
    for share in (0.001, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0):
        plan = budget.choose(prepared, speeds, share * whole)
        assert plan.fits == (plan.seconds <= share * whole)
        assert plan.seconds == pytest.approx(budget.estimate(plan.study, prepared, speeds))
        assert bool(plan.given_up) == (share < 1)
        assert plan.seconds >= before  # more time is used
        before = plan.seconds
    assert plan.study == prepared.study


def test_the_last_rung_can_still_be_judged(prepared: Prepared) -> None:
    plan = budget.choose(prepared, speeds_of(prepared), 1.0)
    assert not plan.fits
    assert (plan.study.seeds, plan.study.trials, plan.study.fractions) == (2, 0, (1.0,))
    assert (plan.study.data.max_test_documents, plan.study.data.max_validation_documents) == (10, 16)
    assert plan.study.train.max_steps == 10
    assert plan.given_up == (
        "validation documents 150 -> 16",
        "test documents 300 -> 10",
        "trials 4 -> 0 (every method keeps its default setting)",
        "shares of the data 0.1, 0.3, 1 -> 1",
        "optimiser steps 300 -> 10",
        "seeds 3 -> 2",
    )


def test_a_third_seed_goes_late(prepared: Prepared) -> None:
    """Steps, documents and all but one trial go first: two seeds hardly tell how far seeds lie apart."""
    speeds = speeds_of(prepared)
    whole = budget.estimate(prepared.study, prepared, speeds)
    plans = [budget.choose(prepared, speeds, whole * part / 400).study for part in range(1, 60)]
    assert {2, 3} == {plan.seeds for plan in plans}
    for plan in plans:
        if plan.seeds == 2:
            assert (plan.train.max_steps, plan.data.max_validation_documents) == (10, 16)
            assert plan.trials <= 1


def test_documents_that_outside_systems_wrote_for_do_not_give_way(prepared: Prepared) -> None:
    outside = prepared.folder.parent / "api.jsonl"
    outside.write_text("\n".join(json.dumps({"id": row.id, "text": "x"}) for row in prepared.dataset.test))
    with_outside = prepare(prepared.study.model_copy(update={"predictions": {"api": str(outside)}}), prepared.folder)
    plan = budget.choose(with_outside, speeds_of(prepared), 1.0)
    assert plan.study.data.max_test_documents is None
    assert not any("test documents" in line for line in plan.given_up)
    assert prepare(plan.study, prepared.folder).outside["api"]


def test_halving_is_given_up_with_the_search(prepared: Prepared) -> None:
    halved = prepare(prepared.study.model_copy(update={"halving": True}), prepared.folder)
    plan = budget.choose(halved, speeds_of(prepared), 1.0)
    assert (plan.study.trials, plan.study.halving) == (0, False)
    assert prepare(plan.study, prepared.folder).study == plan.study


def test_a_search_is_given_up_before_its_methods_are(prepared: Prepared) -> None:
    """A trial and its reserve are kept as long as anything else can give way; then all methods keep their defaults."""
    speeds = speeds_of(prepared)
    kept = [budget.choose(prepared, speeds, seconds).study for seconds in range(50, 2050, 100)]
    assert {study.methods for study in kept} == {prepared.study.methods}
    without = [study for study in kept if not study.trials]
    assert without
    assert all(study.train.max_steps is not None and study.train.max_steps <= 20 for study in without)
    assert [bool(study.trials) for study in kept] == sorted(bool(study.trials) for study in kept)


def test_equal_time_is_equal(prepared: Prepared) -> None:
    whole = prepare(prepared.study.model_copy(update={"fractions": (1.0,)}), prepared.folder)
    speeds = speeds_of(whole)
    study = budget.equal_time(whole, speeds)
    [model] = study.models
    assert set(study.steps) == {"soft_prompt", "lora", "full"}
    spent = {name: steps * speeds[model.name, name].step for name, steps in study.steps.items()}
    longest_step = max(speed.step for speed in speeds.values())
    assert max(spent.values()) - min(spent.values()) <= longest_step
    plan = budget.choose(prepare(study, whole.folder), speeds, 4000.0)
    kept = [plan.study.steps[name] / study.steps[name] for name in study.steps]
    assert max(kept) < 1
    assert max(kept) == pytest.approx(min(kept), rel=0.1)


def test_equal_time_needs_one_share(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "probe", lambda *_: pytest.fail("measured before it was refused"))
    with pytest.raises(UserError, match="--equal time"):
        budget.fit(prepared, None, equal="time")


@pytest.mark.parametrize("flags", [["--budget=1s"], ["--equal=time"]])
def test_a_planned_study_is_done_and_goes_on(
    flags: list[str],
    tiny_model: Callable[[str], Path],
    tiny_data: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    files = [f"--{split}-file={path}" for split, path in tiny_data.items()]
    small = ["--max-length=128", "--max-new-tokens=4", "--max-steps=4", "--seeds=3", "--precision=fp32"]
    own = [f"--model={tiny_model('gpt_neo')}", "--methods=zero_shot,lora", "--output=out"]
    command = ["compare", *own, *files, *small, *flags]
    probe, measured = budget.probe, []

    def once(*asked: Any) -> Speeds:
        """Measured by the dry run; the study would measure the same again, in processes that take seconds to start."""
        measured.append(measured[0] if measured else probe(*asked))
        return measured[0]

    monkeypatch.setattr(budget, "probe", once)
    assert main([*command, "--dry-run"]) == 0
    assert not Path("out").exists()
    seeds = 2 if "--budget=1s" in flags else 3
    output = capsys.readouterr()
    assert f"lora-s{seeds - 1}" in output.out
    assert f"lora-s{seeds}" not in output.out
    assert "planned: " in output.err
    assert main(command) == 0
    assert len(measured) == 2
    capsys.readouterr()
    finals = [read_record(folder) for folder in run_folders(Path("out"))]
    assert sum(record.spec.method.name == "lora" for record in finals) == seeds
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("record.json")}
    monkeypatch.setattr(budget, "probe", lambda *_: pytest.fail("a plan that was made is kept"))
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("record.json")} == before
