"""The list of `tuneoff check`: one item that fails does not hide the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneoff.errors import RunFailure
from tuneoff.profiling.other_programs import OtherPrograms, OtherProgramsMeter
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import Speed
from tuneoff.spec import DataSpec, GenerateSpec, ModelSpec, PromptSpec, StudySpec
from tuneoff.study import checklist, concurrency, resources
from tuneoff.study.checklist import Item, look_at
from tuneoff.study.compatibility import plan_file
from tuneoff.study.inputs import load_inputs
from tuneoff.study.runner import Limits


@pytest.fixture
def study(tiny_data: dict[str, Path], tiny_model: Callable[[str], Path]) -> StudySpec:
    files = {f"{split}_file": str(path) for split, path in tiny_data.items()}
    return StudySpec(
        data=DataSpec(**files),
        models=(ModelSpec(name=str(tiny_model("gpt2"))),),
        prompt=PromptSpec(max_length=160),
        generate=GenerateSpec(max_new_tokens=8),
        methods=("zero_shot", "soft_prompt", "lora", "full"),
    )


def test_a_sound_study(study: StudySpec, tmp_path: Path) -> None:
    found = list(look_at(study, tmp_path / "study"))
    assert not [item for item in found if item.passed is False]
    names = {item.name for item in found}
    assert {"folder", "data", "columns", "model", "tokenizer", "weights", "positions", "tokens"} <= names
    assert {*study.methods, "prompts", "memory", "disk", "caution", "minutes"} <= names
    assert not (tmp_path / "study").exists()


def test_all_that_fails_is_listed(study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "machine_memory", lambda: 1)
    (tmp_path / "file").write_text("")
    wrong = study.model_copy(
        update={
            "data": DataSpec(train_file=str(tmp_path / "none.jsonl")),
            "prompt": PromptSpec(max_length=4096),
            "hyperparameters": {"lora": {"target_modules": ("q_proj",)}},
            "models": (*study.models, ModelSpec(name=str(tmp_path / "no-model"))),
        }
    )
    found = list(look_at(wrong, tmp_path / "file", probe=True))
    assert found[-1].text == "not measured; because of what has failed"
    failed = {item.name for item in found if item.passed is False}
    assert failed == {"folder", "data", "positions", "lora", "memory", "model"}
    assert {item.name for item in found if item.passed} >= {"tokenizer", "weights", "soft_prompt", "full"}


def test_what_a_start_would_refuse_is_found(study: StudySpec, tmp_path: Path) -> None:
    """Another study in the folder, limits that do not fit together, trials of which none can be pruned."""
    folder = tmp_path / "study"
    hashes = load_inputs(study).hashes
    StudyDir(folder).write_spec(study)
    StudyDir(folder).write_plan(plan_file(hashes, ()))

    def start(asked: StudySpec, **limits: Any) -> Item:
        where = tmp_path / "new" if limits.pop("new", False) else folder
        return next(item for item in look_at(asked, where, Limits(**limits)) if item.name == "start")

    assert start(study) == Item("start", True, f"{folder}: this study can begin or go on there")
    assert start(study.model_copy(update={"seeds": 2})).passed
    changed = study.model_copy(update={"train": study.train.model_copy(update={"epochs": 2.0})})
    assert "belongs to a different study (train.epochs: 1.0 -> 2.0)" in start(changed).text
    assert start(changed, new=True).passed
    assert "--workers 999" in start(study, workers=999).text
    halving = study.model_copy(update={"halving": True, "trials": 4})
    assert "no trial of this study can be pruned" in start(halving, new=True).text
    assert start(study, budget_seconds=60.0, new=True).passed
    assert not (tmp_path / "new").exists()


def test_processes_that_a_start_would_refuse_are_found(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than there are cores, and more than fit into the memory, of which each needs its own."""
    monkeypatch.setattr(resources, "usable_cores", lambda: 4)
    several = study.model_copy(update={"methods": ("full",), "train": study.train.model_copy(update={"processes": 64})})
    found = {item.name: item for item in look_at(several, tmp_path / "study")}
    assert found["start"] == Item(
        "start", False, "--processes 64: this machine has 4 processors for programs; give less"
    )
    [model] = study.models
    one = resources.least_memory(model, resources.count_parameters(model), "full")
    monkeypatch.setattr(resources, "machine_memory", lambda: 3 * one)
    found = {item.name: item for item in look_at(several, tmp_path / "study")}
    assert (found["memory"].passed, "start" in found) == (False, False)
    assert f"needs at least {resources.gigabytes(64 * one)} of memory" in found["memory"].text
    few = several.model_copy(update={"train": study.train.model_copy(update={"processes": 2})})
    memory = next(item for item in look_at(few, tmp_path / "study") if item.name == "memory")
    assert memory.passed
    assert f"{resources.gigabytes(2 * one)} and activations for 2 processes" in memory.text


def test_the_models_of_all_folds_take_disk(study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(resources, "check_disk", lambda _parameters, runs, *_: counted.append(runs))
    folds = study.model_copy(
        update={"data": DataSpec(train_file=study.data.train_file, folds=3), "methods": ("lora", "full"), "seeds": 2}
    )
    found = list(look_at(folds, tmp_path / "study"))
    assert not [item.text for item in found if item.passed is False]
    assert counted == [6, 6]  # of the list, and of the start


def test_a_measurement_that_fails_is_an_item(study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **_more: object) -> None:
        raise RunFailure("the measurement has failed")

    monkeypatch.setattr(checklist, "prepare", fail)
    found = list(look_at(study, tmp_path / "study"))
    assert Item("start", False, "the measurement has failed") in found
    assert found[-1].name == "minutes"


def test_a_probe_gives_the_minutes_of_each_method(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = study.model_copy(update={"methods": ("zero_shot", "lora"), "seeds": 3})
    [model] = [spec.name for spec in asked.models]
    speed = Speed(start=60.0, step=0.0, check=0.0, write=0.0)
    measured = {(model, method): speed for method in asked.methods}
    monkeypatch.setattr(checklist, "measure_speeds", lambda *_: measured)
    monkeypatch.setattr(OtherProgramsMeter, "measure", lambda _: OtherPrograms(1.3, 2))
    found = list(look_at(asked, tmp_path / "study", probe=True))
    assert [item.text for item in found if item.name == "minutes"] == [
        "zero_shot: about 1 min 0 s for 1 run (from a probe)",
        "lora: about 3 min 0 s for 3 runs (from a probe)",
        OtherPrograms(1.3, 2).sentence(),
    ]


def test_a_method_that_cannot_be_probed_fails(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RunFailure("the probe of lora-s0 ended early")

    monkeypatch.setattr(checklist, "measure_speeds", refuse)
    last = list(look_at(study, tmp_path / "study", probe=True))[-1]
    assert (last.name, last.passed, last.text) == ("minutes", False, "the probe of lora-s0 ended early")


def test_looking_at_a_study_starts_no_process_that_measures(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "choose", lambda *_: pytest.fail("measured"))
    several = study.model_copy(update={"methods": ("soft_prompt", "lora"), "seeds": 2})
    found = list(look_at(several, tmp_path / "study", Limits(workers=None)))
    assert next(item for item in found if item.name == "start").passed
