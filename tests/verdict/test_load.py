"""Study folders as scores."""

import json
import shutil

import pytest
from tuneoff.verdict.load import load_costs, load_scores

from support.verdict_study import add_run, study_folder
from tuneoff.errors import UserError
from tuneoff.report.chart_data import peak_bytes
from tuneoff.results.run_record import (
    Prediction,
    Reading,
    TrainPoint,
    read_record,
    run_folders,
    write_jsonl,
    write_record,
)
from tuneoff.verdict import decide


def test_a_study_is_one_family_with_groups_and_costs(tmp_path) -> None:
    (scores,) = load_scores(study_folder(tmp_path))
    assert scores.methods == ("zero_shot", "lora", "full")
    assert scores.deterministic == {"zero_shot"}
    assert scores.title("lora") == "LoRA"
    assert scores.block is None
    assert len(set(scores.groups.values())) == 20
    assert scores.notes == ()
    assert scores.costs["zero_shot"]["train_seconds"].value == 0
    assert scores.costs["lora"]["train_seconds"].value == pytest.approx(10)
    assert scores.costs["lora"]["generate_seconds"].value == pytest.approx(1)
    assert scores.costs["full"]["peak_memory_bytes"].value == 2000
    assert scores.costs["full"]["artefact_bytes"].value == 50
    assert scores.costs["full"]["energy_joules"].value is None
    assert scores.costs["full"]["energy_joules"].reason == "no counter"
    verdict = decide(scores)
    assert (verdict.documents, verdict.groups, verdict.seeds) == (40, 20, (0, 1))
    assert any("40 test examples of 20 documents" in sentence for sentence in verdict.sentences)


def test_memory_is_that_which_runs_out_first(tmp_path) -> None:
    folder = add_run(tmp_path / "study", "lora", 0, {"a": 1.0})
    record = read_record(folder)
    assert load_costs([record])["peak_memory_bytes"].value == 2000
    assert record.resources is not None
    measured = {
        name: phase.model_copy(update={"accelerator_peak_bytes": Reading(value=9e9, unit="B", source="a card")})
        for name, phase in record.resources.phases.items()
    }
    card = record.model_copy(update={"resources": record.resources.model_copy(update={"phases": measured})})
    assert load_costs([card])["peak_memory_bytes"].value == peak_bytes(card) == 9e9


def test_a_model_has_its_name_at_a_share_that_other_models_lack(tmp_path) -> None:
    study = study_folder(tmp_path, models=("one", "two"))
    for folder in run_folders(study):
        record = read_record(folder)
        if record.spec.method.name == "zero_shot":  # it would stand in at every share
            shutil.rmtree(folder)
        elif record.spec.model.name == "one":
            small = folder.with_name(f"{folder.name}-small")
            shutil.copytree(folder, small)
            write_record(small, record.model_copy(update={"spec": record.spec.model_copy(update={"fraction": 0.1})}))
    assert [scores.block for scores in load_scores(study, fraction=0.1)] == ["one"]
    assert [scores.block for scores in load_scores(study)] == ["one", "two"]


def test_energy_adds_training_and_generation(tmp_path) -> None:
    reading = Reading(value=70.0, unit="J", source="RAPL")
    add_run(tmp_path, "lora", 0, {"a": 1.0}, energy=reading)
    assert load_scores(tmp_path)[0].costs["lora"]["energy_joules"].value == pytest.approx(140)


def test_each_base_model_is_its_own_family(tmp_path) -> None:
    first, second = load_scores(study_folder(tmp_path, models=("starter", "org/other")))
    assert (first.block, second.block) == ("org/other", "starter")
    assert first.scores["lora", 0] != second.scores["lora", 0]
    assert any("with org/other" in sentence for sentence in decide(first).sentences)


def test_failed_runs_are_left_out_and_named(tmp_path) -> None:
    study = study_folder(tmp_path)
    add_run(study, "soft_prompt", 0, {}, status="diverged")
    (scores,) = load_scores(study)
    assert "soft_prompt" in scores.methods
    assert scores.notes == ("Run soft_prompt-s0 is left out: diverged.",)
    text = " ".join(decide(scores).sentences)
    assert "Not judged: Soft prompt has no finished, scored run." in text


def test_runs_outside_the_plan_are_not_judged(tmp_path) -> None:
    study = study_folder(tmp_path)
    kept = sorted(path.name for path in (study / "runs").iterdir() if "full" not in path.name)
    (study / "plan.json").write_text(json.dumps({"runs": kept}))
    assert load_scores(study)[0].methods == ("zero_shot", "lora")


def test_outside_systems_take_part_without_seeds_or_costs(tmp_path) -> None:
    study = study_folder(tmp_path)
    ids = list(load_scores(study)[0].groups)
    rows = [Prediction(id=name, text="", scores={"rouge1": 50.0}).model_dump(mode="json") for name in ids]
    write_jsonl(study / "outside" / "gpt.jsonl", rows)
    (scores,) = load_scores(study)
    assert scores.methods[-1] == "gpt"
    assert "gpt" in scores.deterministic
    verdict = decide(scores)
    assert verdict.best == "gpt"
    assert all(entry.method is None for entry in verdict.recommendations)


def test_without_documents_each_example_is_its_own_group_and_that_is_said(tmp_path) -> None:
    study = study_folder(tmp_path)
    (study / "documents.jsonl").unlink()
    (scores,) = load_scores(study)
    assert scores.groups == {}
    verdict = decide(scores)
    assert verdict.groups == verdict.documents == 40
    assert any("a document of its own" in line for line in verdict.sentences)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("runs/starter-lora-s0/predictions.jsonl", '{"id": 3}\n'),
        ("runs/starter-lora-s0/predictions.jsonl", "{broken\n"),
        ("runs/starter-lora-s0/record.json", "{}"),
        ("documents.jsonl", '{"id": "x"}\n'),
        ("plan.json", '["lora"]'),
        ("outside/gpt.jsonl", '{"no": "id"}\n'),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file: str, content: str) -> None:
    study = study_folder(tmp_path)
    path = study / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(UserError, match=path.name.replace(".", r"\.")):
        load_scores(study)


def test_a_folder_without_runs_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no run there to judge"):
        load_scores(tmp_path)


def test_two_runs_with_one_seed_are_refused(tmp_path) -> None:
    study = study_folder(tmp_path)
    shutil.copytree(study / "runs" / "starter-lora-s0", study / "runs" / "starter-lora-s0-again")
    with pytest.raises(UserError, match="ran twice with seed 0"):
        load_scores(study)


def test_a_study_under_way_says_what_it_does_not_know(tmp_path) -> None:
    study = study_folder(tmp_path)
    plan = {"methods": ["zero_shot", "soft_prompt", "lora", "full"], "seeds": 3}
    (study / "study.json").write_text(json.dumps(plan))
    shutil.rmtree(study / "runs" / "starter-full-s1")
    verdict = decide(load_scores(study)[0])
    assert verdict.left_out == ("Soft prompt",)
    assert verdict.sentences[1] == "Not judged: Soft prompt has no finished, scored run."
    assert (
        "Runs that are planned are missing; finished so far: LoRA 2 of 3 and Full fine-tuning 1 of 3." in verdict.notes
    )
    assert "Seed 1 is excluded for all methods: Full fine-tuning did not finish with it." in verdict.notes
    (study / "runs" / "starter-full-s0" / "record.json").unlink()
    # Of all methods LoRA is the best of those that were run: that is no verdict on the others.
    (headline, *_) = decide(load_scores(study)[0]).sentences
    assert headline.startswith("LoRA is the best of the 2 methods that have runs")


def test_nothing_is_missing_from_a_study_that_is_done(tmp_path) -> None:
    study = study_folder(tmp_path)
    (study / "study.json").write_text(json.dumps({"methods": ["zero_shot", "lora", "full"], "seeds": 2}))
    verdict = decide(load_scores(study)[0])
    assert verdict.left_out == ()
    assert not any("planned" in line or "Not judged" in line for line in verdict.sentences)


def test_a_damaged_study_file_is_named(tmp_path) -> None:
    study = study_folder(tmp_path)
    (study / "study.json").write_text("{broken")
    with pytest.raises(UserError, match=r"study\.json"):
        load_scores(study)


def test_labelled_examples_are_those_that_were_read(tmp_path) -> None:
    study = study_folder(tmp_path)
    points = tuple(
        TrainPoint(step=step, epoch=1, seconds=0, loss=1, learning_rate=1, grad_norm=1, tokens=1) for step in (1, 2, 3)
    )
    for folder in (study / "runs").iterdir():
        record = read_record(folder)
        if record.spec.method.name == "zero_shot":
            continue
        there = {"lora": 100, "full": 20}[record.spec.method.name]
        update = {"details": {"train_examples": there}, "curve": record.curve.model_copy(update={"train": points})}
        write_record(folder, record.model_copy(update=update))
    shots = read_record(study / "runs" / "starter-zero_shot-s0").model_copy(update={"details": {"shots": ["a", "b"]}})
    costs = {name: found["labelled_examples"].value for name, found in load_scores(study)[0].costs.items()}
    assert costs == {"zero_shot": 0, "lora": 24, "full": 20}  # three batches of 8, or all that there are
    assert load_costs([shots])["labelled_examples"].value == 2
    verdict = decide(load_scores(study)[0], margin=50)
    [entry] = [one for one in verdict.recommendations if one.axis == "labelled_examples"]
    assert entry.method == "zero_shot"
