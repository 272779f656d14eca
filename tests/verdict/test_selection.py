"""Which run a study hands over: the method by the verdict, the seed by validation."""

from pathlib import Path

import pytest

from support.verdict_study import (
    add_run,
    divide_into_folds,
    edit_predictions,
    edit_record,
    load,
    run_dirs,
    study_folder,
    write_spec,
)
from tuneoff.errors import UserError
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Prediction
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.summary import ModelToUse
from tuneoff.verdict.judge import judge_study
from tuneoff.verdict.selection import find_model_to_use
from tuneoff.verdict.summarize import summarize


def found(study: Path, method: str | None = None, model: str | None = None) -> ModelToUse:
    return find_model_to_use(load(study), method, model)


def set_loss(folder: RunDir, loss: float | None) -> None:
    edit_record(folder, curve=folder.read_record().curve.model_copy(update={"best_validation_loss": loss}))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    made = study_folder(tmp_path)
    for folder in run_dirs(made):
        set_loss(folder, 2.0 - folder.read_record().spec.seed / 10)
    return made


def test_the_highest_mean_and_of_its_seeds_the_lowest_validation_loss(study: Path) -> None:
    [judged] = judge_study(load(study))
    chosen = found(study)
    folder = StudyDir(study).run_dir(chosen.run)
    assert chosen.method == judged.verdict.best
    assert chosen.seed == folder.read_record().spec.seed == 1
    assert "of its 2 seeds the one with the lowest validation loss" in chosen.why
    set_loss(folder, 9.0)
    assert found(study).seed == 0


def test_what_may_be_the_best_too_is_named(study: Path) -> None:
    chosen, [judged] = found(study), judge_study(load(study))
    assert len(judged.verdict.best_set) == 2
    [other] = set(judged.verdict.best_set) - {chosen.method}
    assert chosen.why.endswith(f"; {judged.scores.title(other)} may be the best too (--method NAME)")
    assert found(study, other).method == other
    assert found(study, other).why.startswith("the requested method")


def test_an_outside_system_cannot_be_handed_over(study: Path) -> None:
    rows = [Prediction(id=name, text="", scores={"rouge1": 99.0}) for name in load(study).groups]
    StudyDir(study).write_outside({"api": rows})
    [judged] = judge_study(load(study))
    assert judged.verdict.best == "api"
    assert found(study).method in {"lora", "full"}
    assert found(study).why.startswith("the highest mean except for api, which leaves no model to use; of its")


def write_one_text(folder: RunDir) -> None:
    edit_predictions(folder, lambda row: row.model_copy(update={"text": "The same."}))


def test_a_method_that_writes_one_text_for_all_documents_is_not_handed_over(study: Path) -> None:
    best, other = found(study).method, {"lora": "full", "full": "lora"}[found(study).method]
    first, second = (StudyDir(study).run_dir(f"starter-{best}-s{seed}") for seed in (0, 1))
    write_one_text(second)
    assert found(study).seed == 0  # seed 1 has the lower validation loss
    write_one_text(first)
    with pytest.raises(UserError, match=r"the same text for every document\..*to use one all the same, add --method"):
        found(study)
    summary = summarize(load(study))
    assert summary.winner is None
    assert "writes one and the same text for every document" in str(summary.cautions[0])
    assert summary.verdicts[0].no_winner == summary.no_winner
    assert found(study, other).method == other
    assert found(study, best).seed == 1


def test_a_method_alone_that_writes_one_text_is_used_with_a_word(tmp_path: Path) -> None:
    """There is nothing to choose; the second method makes it a choice that nothing supports."""
    write_one_text(add_run(tmp_path, "lora", 0, {"a": 1.0, "b": 2.0, "c": 3.0}))
    assert found(tmp_path).method == "lora"
    assert found(tmp_path).why.startswith(
        "the only method of this study; Nothing was measured: every method writes one"
    )
    write_one_text(add_run(tmp_path, "full", 0, {"a": 1.0, "b": 2.0, "c": 3.0}))
    with pytest.raises(UserError, match="every method writes one and the same text"):
        found(tmp_path)


def test_of_several_models_the_better_one_unless_one_is_requested(tmp_path: Path) -> None:
    made = study_folder(tmp_path, models=("a/x", "b/y"))
    best = {
        judged.verdict.block: max(result.mean for result in judged.verdict.methods)
        for judged in judge_study(load(made))
    }
    assert found(made).model == max(best, key=best.__getitem__)
    other = min(best, key=best.__getitem__)
    assert f"; no test compares base models: the highest mean is {best[other]:.1f} on {other}" in found(made).why
    assert found(made, model="a/x").model == "a/x"
    assert "base models" not in found(made, model="a/x").why
    assert found(made, model="b/y").model == "b/y"
    assert found(made, model="b/y").why.startswith("the highest mean on that model")
    with pytest.raises(UserError, match=r"--model c/z: the study has no finished run of it; use a/x, b/y"):
        found(made, model="c/z")


def test_a_method_and_a_model_without_a_common_run_are_named(tmp_path: Path) -> None:
    add_run(tmp_path, "lora", 0, {"a": 1.0}, model="a/x")
    add_run(tmp_path, "full", 0, {"a": 1.0}, model="b/y")
    with pytest.raises(UserError, match="--method lora --model b/y: the study has no finished run of this method"):
        found(tmp_path, "lora", "b/y")


def test_examples_that_were_withheld_cannot_be_handed_over(tmp_path: Path) -> None:
    """Few-shot leaves documents, which --no-texts removes."""
    for name, mean in (("few_shot", 60.0), ("lora", 30.0)):
        folder = add_run(tmp_path, name, 0, {"a": mean, "b": mean + 1})
        artefact = {"format": "prompt", "bytes": 1, "files": ["shots.json"]}
        if name == "few_shot":
            edit_record(folder, artefact=artefact)
    assert found(tmp_path).method == "lora"
    shots = StudyDir(tmp_path).run_dir("starter-few_shot-s0").artefact / "shots.json"
    shots.parent.mkdir()
    shots.write_text("[]")
    assert found(tmp_path).method == "few_shot"
    assert not found(tmp_path).card


def test_one_method_alone_is_handed_over_without_a_verdict(tmp_path: Path) -> None:
    add_run(tmp_path, "lora", 0, {"a": 1.0, "b": 2.0})
    assert found(tmp_path).method == "lora"


def test_only_finished_runs_can_be_used(study: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    add_run(other, "lora", 0, {"a": 1.0}, status="failed")
    with pytest.raises(UserError, match="no finished run on all the data"):
        found(other)
    with pytest.raises(UserError, match="--method dora: the study has no finished run of it; use full, lora, z"):
        found(study, "dora")


def test_of_several_folds_the_first_is_handed_over(study: Path) -> None:
    """Validation losses of two folds are of different documents, so the lower one says nothing."""
    divide_into_folds(study)
    for folder in run_dirs(study):
        if folder.name.endswith("fold2"):
            set_loss(folder, 0.1)
    write_spec(study, methods=["zero_shot", "lora", "full"], seeds=2, data={"train_file": "x", "folds": 2})
    chosen = found(study)
    assert chosen.run.endswith("-s1-fold1")
    assert chosen.seed == 1
