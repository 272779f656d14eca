"""A study judged as a whole: verdict, data sizes and claims, all from its records."""

import shutil
from pathlib import Path

import pytest

from support.verdict_study import edit_predictions, edit_record, edit_spec, load, run_dirs, study_folder, write_spec
from tuneoff.errors import UserError
from tuneoff.results.run_dir import RunDir
from tuneoff.results.study_state import DataFile
from tuneoff.spec import MethodSpec
from tuneoff.verdict.decide import decide
from tuneoff.verdict.judge import judge_study
from tuneoff.verdict.scores import load_scores
from tuneoff.verdict.selection import find_model_to_use
from tuneoff.verdict.summarize import summarize


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """LoRA 12 points over zero-shot, on all the data and on a tenth; claims about both."""
    made = study_folder(tmp_path)
    for folder in run_dirs(made):
        if "zero_shot" not in folder.name:
            copy = folder.path.with_name(f"{folder.name}-tenth")
            shutil.copytree(folder.path, copy)
            edit_spec(RunDir(copy), fraction=0.1)
    claims = [
        {"text": "on all", "kind": "better", "methods": ["lora", "zero_shot"]},
        {"text": "on a tenth", "kind": "better", "methods": ["zero_shot", "lora"], "fraction": 0.1},
        {"text": "much better", "kind": "at_least", "methods": ["zero_shot", "lora"]},
    ]
    write_spec(made, methods=["zero_shot", "lora", "full"], seeds=2, claims=claims, fractions=[0.1, 1])
    load(made).dir.write_data(DataFile(counts={"train": 1000}))
    return made


def test_data_sizes_and_claims_are_judged_with_the_verdict(study: Path) -> None:
    [judged] = judge_study(load(study))
    assert judged.data_sizes is not None
    assert {point.examples for point in judged.data_sizes.crossovers[0].band} == {100, 1000}
    assert [claim.outcome for claim in judged.claims] == ["supported", "contradicted", "contradicted"]
    [wide] = judge_study(load(study), margin=50)  # another margin, another answer
    assert [claim.outcome for claim in wide.claims] == ["supported", "contradicted", "supported"]


def test_what_differs_between_data_sizes_is_said_with_them(study: Path) -> None:
    for folder in run_dirs(study):
        edit_record(folder, details={"dtype": "float32" if "tenth" in folder.name else "bfloat16"})
    [judged] = judge_study(load(study))
    assert judged.data_sizes is not None
    assert judged.data_sizes.sentences[0].startswith("Caution: runs at different training set sizes differ in arithm")
    assert not any("arithmetic" in note for note in judged.verdict.notes)


def test_without_a_count_of_examples_data_sizes_are_not_judged(study: Path) -> None:
    (study / "data.json").unlink()
    [judged] = judge_study(load(study))
    assert judged.data_sizes is None


def test_a_damaged_count_is_named(study: Path) -> None:
    (study / "data.json").write_text("{")
    with pytest.raises(UserError, match=r"data\.json"):
        load(study)


def test_judging_again_gives_the_same_verdict(tmp_path: Path) -> None:
    study = load(study_folder(tmp_path))
    expected = decide(load_scores(study)[0])
    assert [judged.verdict for judged in judge_study(study)] == [expected]
    assert [judged.verdict for judged in judge_study(load(study.path))] == [expected]


def test_the_margin_is_that_of_the_study_unless_another_is_requested(study: Path) -> None:
    write_spec(study, methods=["zero_shot", "lora", "full"], seeds=2, margin=3.0)
    [own] = judge_study(load(study))
    [requested] = judge_study(load(study), margin=0.25)
    assert (own.verdict.margin, requested.verdict.margin) == (3.0, 0.25)


def test_a_choice_that_differs_from_the_planned_one_is_exploratory(study: Path) -> None:
    def sentences(metric: str, margin: float) -> str:
        runs = [folder for folder in run_dirs(study) if "tenth" not in folder.name]
        for folder in runs:
            rows = folder.read_predictions()
            folder.write_predictions(
                row.model_copy(update={"scores": {"rouge1": row.scores["rouge1"], "rouge2": row.scores["rouge1"]}})
                for row in rows
            )
        return " ".join(judge_study(load(study), metric, margin)[0].verdict.sentences)

    assert "exploratory, unless" not in sentences("rouge1", 0.5)
    assert "Judged by a margin of 1 points instead of 0.5: exploratory, unless" in sentences("rouge1", 1)
    both = "Judged by ROUGE-2 instead of ROUGE-1 and a margin of 2 points instead of 0.5: exploratory, unless"
    assert both in sentences("rouge2", 2)


def test_a_metric_without_a_direction_decides_nothing(study: Path) -> None:
    with pytest.raises(UserError, match="needs a metric in which more is better"):
        judge_study(load(study), "length")


def test_a_study_is_judged_by_its_own_metric_unless_another_is_requested(study: Path) -> None:
    for folder in run_dirs(study):
        rows = folder.read_predictions()
        folder.write_predictions(
            row.model_copy(update={"scores": {**row.scores, "rougeL": 100 - (row.scores["rouge1"] or 0)}})
            for row in rows
        )
        folder.write_record(folder.read_record())  # the manifest has the digest of the changed predictions
    [by_words] = judge_study(load(study))
    write_spec(study, methods=["zero_shot", "lora", "full"], seeds=2, metric="rougeL")
    [own] = judge_study(load(study))
    [requested] = judge_study(load(study), "ROUGE-1")
    assert (own.verdict.metric, requested.verdict.metric) == ("rougeL", "rouge1")
    assert own.verdict.best != by_words.verdict.best == requested.verdict.best
    assert "exploratory" not in " ".join(own.verdict.sentences)
    assert "Judged by ROUGE-1 instead of ROUGE-L: exploratory" in " ".join(requested.verdict.sentences)
    summary = summarize(load(study))
    assert summary.primary_metric == "rougeL"
    assert summary.winner is not None
    assert summary.winner.method == own.verdict.best


def test_claims_name_the_base_model_of_a_study_of_several(tmp_path: Path) -> None:
    made = study_folder(tmp_path, models=("a/x", "b/y"))
    claim = {"text": "better", "kind": "better", "methods": ["lora", "zero_shot"]}
    write_spec(made, methods=["zero_shot", "lora", "full"], seeds=2, claims=[claim])
    assert [[claim.model for claim in judged.claims] for judged in judge_study(load(made))] == [["a/x"], ["b/y"]]


def test_settings_of_a_method_are_rows_of_one_verdict(tmp_path: Path) -> None:
    made = study_folder(tmp_path)
    for folder in run_dirs(made):
        if "lora" in folder.name:
            copy = RunDir(folder.path.with_name(folder.path.name.replace("lora", "lora-r-64")))
            shutil.copytree(folder.path, copy.path)
            edit_spec(copy, method=MethodSpec(name="lora@r=64", hyperparameters={"r": 64}))
            edit_predictions(
                copy, lambda row: row.model_copy(update={"scores": {"rouge1": (row.scores["rouge1"] or 0) / 2}})
            )
    write_spec(made, methods=["full", "lora@r=64", "lora", "zero_shot"], seeds=2)
    [judged] = judge_study(load(made))
    titles = [result.title for result in judged.verdict.methods]
    assert titles == ["Zero-shot", "LoRA", "LoRA r=64", "Full fine-tuning"]
    [pair] = [pair for pair in judged.verdict.pairs if {pair.first, pair.second} == {"lora", "lora@r=64"}]
    assert pair.decision == "better"
    assert len(judged.verdict.pairs) == 6
    rows = [(row.name, row.title, row.seeds) for row in summarize(load(made)).rows]
    assert ("lora@r=64", "LoRA r=64", 2) in rows
    assert find_model_to_use(load(made), "lora@r=64").title == "LoRA r=64"


def test_a_row_of_a_method_without_seeds_counts_at_every_amount_of_data(study: Path) -> None:
    """Its one run on all the data is that of every fraction, as for zero-shot itself."""
    for folder in run_dirs(study):
        if "zero_shot" in folder.name:
            edit_spec(folder, method=MethodSpec(name="zero_shot@brief", hyperparameters={"wording": "Be brief."}))
    claims = [{"text": "a", "kind": "better", "methods": ["zero_shot@brief", "lora"], "fraction": 0.1}]
    write_spec(study, methods=["zero_shot@brief", "lora", "full"], seeds=2, claims=claims, fractions=[0.1, 1])
    [judged] = judge_study(load(study))
    assert judged.data_sizes is not None
    assert "Zero-shot brief" in {curve.title for curve in judged.data_sizes.curves}
    assert [claim.outcome for claim in judged.claims] == ["contradicted"]
    assert not any("Planned runs are missing" in note for note in judged.verdict.notes)
