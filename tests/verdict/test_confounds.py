"""Confounds: differences in arithmetic, machine and libraries, within one study and between studies."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.verdict_study import add_run, edit_record, load, run_dirs, study_folder
from tuneoff.cli import verdicts
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Provenance, Record, RunDetails
from tuneoff.spec import GenerateSpec, PromptSpec
from tuneoff.verdict.confounds import arithmetic, confounds_between, confounds_between_sizes, find_confounds
from tuneoff.verdict.decide import decide
from tuneoff.verdict.scores import load_scores
from tuneoff.verdict.study_diff import diff

ALIKE: dict[str, Any] = {
    "details": {"dtype": "bfloat16", "device": "cpu", "kernels": "tuneoff"},
    "provenance": {
        "numerics_version": 3,
        "machine": {"cpu": "EPYC", "usable_cores": 2, "accelerators": []},
        "versions": {"torch": "2.13.0", "transformers": "5.3.0"},
    },
}
FP32 = {"dtype": "float32", "device": "cpu"}


def changed(folder: RunDir, *, role: str = "final", **what: dict[str, Any]) -> Record:
    """Gives the record of a folder the common environment, changed by `what`, and writes it back."""
    spec = folder.read_record().spec.model_copy(update={"role": role})
    return edit_record(folder, **{**ALIKE, **what, "spec": spec})


def provenance(**what: Any) -> dict[str, Any]:
    return {**ALIKE["provenance"], **what}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Zero-shot once, LoRA and full twice, all in the same environment."""
    made = study_folder(tmp_path)
    for folder in run_dirs(made):
        changed(folder)
    return made


def records_of(study: Path) -> list[Record]:
    return load(study).records


def test_equal_environments_have_no_confound(study: Path) -> None:
    assert find_confounds(records_of(study)) == []
    assert decide(load_scores(load(study))[0]).notes == ()


def test_missing_values_are_ignored(tmp_path: Path) -> None:
    made = study_folder(tmp_path)
    empty, *_ = run_dirs(made)
    changed(empty, details={"dtype": ""}, provenance={"machine": {"cpu": ""}, "versions": {"torch": ""}})
    assert find_confounds(records_of(made)) == []


def test_another_arithmetic_is_a_caution_of_the_verdict(study: Path) -> None:
    for folder in run_dirs(study):
        if "lora" in folder.name:
            changed(folder, details=FP32)
    [found] = find_confounds(records_of(study))
    assert found.changes_scores
    assert found.description.startswith(
        "runs differ in arithmetic: bfloat16 (3 runs: Zero-shot, Full fine-tuning), float32 (2 runs: LoRA)"
    )
    verdict = decide(load_scores(load(study))[0])
    assert verdict.sentences[-1].startswith("Caution: runs differ in arithmetic")


@pytest.mark.parametrize(
    ("what", "aspect", "changes_scores"),
    [
        ({"details": ALIKE["details"] | {"kernels": "torch"}}, "kernels", True),
        ({"details": {"dtype": "bfloat16", "device": "cuda:0"}}, "arithmetic", True),
        ({"provenance": provenance(numerics_version=2)}, "tuneoff's numerics", True),
        ({"provenance": provenance(machine={"cpu": "EPYC", "usable_cores": 8})}, "machine", False),
        ({"provenance": provenance(machine={"cpu": "Xeon", "usable_cores": 2})}, "machine", False),
        ({"provenance": provenance(versions={"torch": "2.14.0", "transformers": "5.3.0"})}, "torch", False),
        ({"provenance": provenance(versions={"torch": "2.13.0", "transformers": "5.4.0"})}, "transformers", False),
    ],
)
def test_each_difference_is_found(study: Path, what: dict[str, Any], aspect: str, changes_scores: bool) -> None:
    changed(run_dirs(study)[0], **what)
    [found] = find_confounds(records_of(study))
    assert (found.aspect, found.changes_scores, found.model) == (aspect, changes_scores, "starter")
    assert "(4 runs: " in found.description
    assert "(1 run: " in found.description


def test_base_models_are_not_compared_with_each_other(tmp_path: Path) -> None:
    made = study_folder(tmp_path, models=("starter", "org/other"))
    for folder in run_dirs(made):
        changed(folder, details=FP32 if folder.name.startswith("org-other") else ALIKE["details"])
    assert find_confounds(records_of(made)) == []


def test_failed_runs_are_ignored(study: Path) -> None:
    changed(add_run(study, "lora", 9, {}, status="failed"), details=FP32)
    assert find_confounds(records_of(study)) == []


@pytest.mark.parametrize(("role", "words"), [("trial", "settings were chosen"), ("timing", "costs were timed")])
def test_trials_and_timing_runs_in_another_arithmetic_do_not_change_scores(study: Path, role: str, words: str) -> None:
    changed(add_run(study, "lora", 8, {}), role=role, details=FP32)
    changed(add_run(study, "full", 8, {}), role=role)
    [found] = find_confounds(records_of(study))
    assert not found.changes_scores
    assert found.description.startswith(words)
    assert "float32, final runs bfloat16" in found.description
    assert "LoRA" in found.description
    assert "Full" not in found.description


def test_a_timing_run_on_another_machine_is_found(study: Path) -> None:
    machine = provenance(machine={"cpu": "Xeon", "usable_cores": 2})
    changed(add_run(study, "lora", 8, {}), role="trial", provenance=machine)
    assert find_confounds(records_of(study)) == []  # the time of a trial is not a cost
    changed(add_run(study, "lora", 9, {}), role="timing", provenance=machine)
    [found] = find_confounds(records_of(study))
    assert found.aspect == "machine"


def test_the_device_is_part_of_the_arithmetic(study: Path) -> None:
    record = records_of(study)[0]
    assert arithmetic(record) == "bfloat16"
    on_gpu = record.model_copy(update={"details": RunDetails(dtype="bfloat16", device="cuda:1")})
    assert arithmetic(on_gpu) == "bfloat16 on cuda"
    assert arithmetic(record.model_copy(update={"details": RunDetails()})) is None


def test_studies_of_the_same_weights_are_compared_whatever_their_name(study: Path) -> None:
    here, there = records_of(study), records_of(study)
    weights = Provenance.model_validate(provenance(model={"name": "starter", "content_hash": "abc"}))
    here = [record.model_copy(update={"provenance": weights}) for record in here]
    renamed = there[0].spec.model.model_copy(update={"name": "/models/starter"})
    there = [
        record.model_copy(
            update={
                "provenance": weights,
                "details": RunDetails.model_validate(FP32),
                "spec": record.spec.model_copy(update={"model": renamed}),
            }
        )
        for record in there
    ]
    [found] = confounds_between([("a", here), ("b", there)])
    assert found.description.startswith("runs differ in arithmetic: bfloat16 (5 runs: a), float32 (5 runs: b)")
    others = Provenance.model_validate(provenance(model={"name": "starter", "content_hash": "xyz"}))
    other = [record.model_copy(update={"provenance": others}) for record in there]
    assert confounds_between([("a", here), ("b", other)]) == []


def test_judging_several_studies_prints_their_confounds(study: Path, tmp_path: Path) -> None:
    other = study_folder(tmp_path / "b")
    for folder in run_dirs(other):
        changed(folder, details=FP32)
    shown = verdicts.judge_output([study, other], "rouge1", None, [], as_json=False)
    assert f"CAUTION: starter: runs differ in arithmetic: bfloat16 (5 runs: {study}), float32" in shown
    rows = json.loads(verdicts.judge_output([study, other], "rouge1", None, [], as_json=True))
    assert [row["study"] for row in rows if "study" in row] == [str(study), str(other)]
    [between] = [row["between"] for row in rows if "between" in row]
    assert between["aspect"] == "arithmetic"
    assert "CAUTION" not in verdicts.judge_output([study, study], "rouge1", None, [], as_json=False)
    assert "arithmetic: bfloat16 -> float32" in diff(load(study), load(other)).settings


def test_training_set_sizes_of_other_arithmetic_are_reported(study: Path) -> None:
    """Within each fraction all runs are alike, so no comparison of methods is confounded, but the curve is."""
    records = records_of(study)
    small = [
        record.model_copy(
            update={
                "spec": record.spec.model_copy(update={"fraction": 0.1}),
                "details": RunDetails.model_validate(FP32),
            }
        )
        for record in records
        if record.spec.method.name != "zero_shot"
    ]
    assert confounds_between_sizes(records) == []
    assert confounds_between_sizes([*records, *small]) == [
        "Caution: runs at different training set sizes differ in arithmetic: LoRA and Full fine-tuning (float32 at "
        "10 %, bfloat16 at 100 %); this alone may change scores."
    ]
    [first, *others] = records
    mixed = [first.model_copy(update={"details": RunDetails.model_validate(FP32)}), *others]
    [caution] = confounds_between_sizes([*mixed, *small])
    assert "Full fine-tuning (float32 at 10 %, bfloat16 and float32 at 100 %)" in caution


def test_runs_that_were_not_asked_for_the_same_are_a_caution(study: Path) -> None:
    lora = next(folder for folder in run_dirs(study) if "lora" in folder.name)
    spec = lora.read_record().spec
    shorter = spec.model_copy(update={"generate": GenerateSpec(max_new_tokens=1)})
    edit_record(lora, spec=shorter.model_copy(update={"prompt": PromptSpec(instruction="Another.")}))
    prompt, generation = find_confounds(records_of(study))
    assert prompt.changes_scores
    assert prompt.description.startswith("runs differ in prompt: hash ")
    assert generation.description == (
        "runs differ in generation: 64 tokens and 1 beam at most (4 runs: Zero-shot, LoRA, Full fine-tuning), "
        "1 token and 1 beam at most (1 run: LoRA); this alone may change scores"
    )


def test_runs_on_other_data_or_weights_are_a_caution(study: Path) -> None:
    contents = {"data": {"description": "", "content_hash": "1"}, "model": {"name": "starter", "content_hash": "2"}}
    first, *others = run_dirs(study)
    for folder in others:
        changed(folder, provenance=provenance(**contents))
    assert find_confounds(records_of(study)) == []  # what is not known is no difference
    contents = {"data": {"description": "", "content_hash": "3"}, "model": {"name": "starter", "content_hash": "4"}}
    changed(first, provenance=provenance(**contents))
    assert [found.aspect for found in find_confounds(records_of(study))] == ["data", "weights of the base model"]
