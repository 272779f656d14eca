"""One verdict over the rows of several studies: only on the same documents, and with what else differs beside it."""

import shutil
from pathlib import Path

import pytest

from support.verdict_study import (
    divide_into_folds,
    edit_predictions,
    edit_record,
    edit_spec,
    load,
    run_dirs,
    study_folder,
    write_spec,
)
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Curve, DataProvenance, ModelProvenance, Provenance, TrainPoint
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import DataFile
from tuneoff.spec import MethodSpec, PromptSpec
from tuneoff.verdict.confounds import confounds_between
from tuneoff.verdict.together import Together, judge_studies


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Zero-shot, LoRA and full; and a second study with the same zero-shot, another LoRA, and LoRA of rank 64."""
    one = study_folder(tmp_path)
    documents = [row.model_copy(update={"document": f"text {row.id}"}) for row in load(one).documents]
    StudyDir(one).write_documents(documents)
    write_spec(one, methods=["zero_shot", "lora", "full"], seeds=2)
    two = tmp_path / "other"
    shutil.copytree(one, two)
    for folder in run_dirs(two):
        if "full" in folder.name:
            edit_spec(folder, method=MethodSpec(name="lora@r=64", hyperparameters={"r": 64}))
        if "zero_shot" not in folder.name:
            edit_record(folder, run_id=f"another-{folder.name}")
            edit_predictions(
                folder, lambda row: row.model_copy(update={"scores": {"rouge1": (row.scores["rouge1"] or 0) / 2}})
            )
    write_spec(two, methods=["zero_shot", "lora", "lora@r=64"], seeds=2)
    return one, two


def judged(folders: tuple[Path, ...], metric: str | None = None, margin: float | None = None) -> Together:
    names = ("one", "two", "three")
    return judge_studies({name: load(path) for name, path in zip(names, folders, strict=False)}, metric, margin)


def test_all_rows_are_in_one_verdict_and_the_same_runs_are_one_row(folders: tuple[Path, Path]) -> None:
    found = judged(folders)
    assert found.reason is None
    [verdict] = found.verdicts
    titles = {result.method: result.title for result in verdict.methods}
    assert titles == {
        "zero_shot": "Zero-shot",
        "one: lora": "LoRA (one)",
        "full": "Full fine-tuning",
        "two: lora": "LoRA (two)",
        "lora@r=64": "LoRA r=64",
    }
    assert len(verdict.pairs) == 10  # the intervals hold for all of them at once
    [pair] = [pair for pair in verdict.pairs if {pair.first, pair.second} == {"one: lora", "two: lora"}]
    assert pair.decision == "better"
    assert any(sentence.startswith("The rows of one and two are compared together") for sentence in verdict.sentences)


def test_the_order_of_the_studies_changes_no_number(folders: tuple[Path, Path]) -> None:
    one, two = folders
    there = {result.title: result.mean for result in judged((one, two)).verdicts[0].methods}
    turned = judge_studies({"two": load(two), "one": load(one)}).verdicts[0].methods
    assert {result.title: result.mean for result in turned} == there


def test_further_seeds_of_the_same_runs_make_no_other_row(folders: tuple[Path, Path]) -> None:
    one, _ = folders
    more = one.with_name("more")
    shutil.copytree(one, more)
    [last] = [folder for folder in run_dirs(more) if folder.name == "starter-lora-s1"]
    shutil.rmtree(last.path)
    [verdict] = judged((one, more)).verdicts
    assert [result.method for result in verdict.methods] == ["zero_shot", "lora", "full"]
    assert verdict.seeds == (0, 1)


def test_other_documents_or_references_are_not_compared(folders: tuple[Path, Path]) -> None:
    _, two = folders
    first, *others = load(two).documents
    StudyDir(two).write_documents([first.model_copy(update={"references": ("another",)}), *others])
    found = judged(folders)
    assert found.verdicts == ()
    assert found.reason == "their test documents and references differ: 39 are the same, of 40 in one and 40 in two"


def test_without_documents_nothing_is_known_to_be_the_same(folders: tuple[Path, Path]) -> None:
    bare = folders[0].with_name("bare")
    for folder in run_dirs(folders[0]):
        shutil.copytree(folder.path, bare / "runs" / folder.name)
    assert judged((folders[1], bare)).reason == "two holds no documents, so it is unknown what was scored"
    assert judged((bare, bare)).reason == "one and two hold no documents, so it is unknown what was scored"


def test_without_texts_the_references_are_only_known_from_the_data(folders: tuple[Path, Path]) -> None:
    _, two = folders
    without = [row.model_copy(update={"document": "", "references": ()}) for row in load(two).documents]
    StudyDir(two).write_documents(without)
    assert judged(folders).reason == "two keeps no texts (--no-texts), so references cannot be compared"
    for folder in folders:
        StudyDir(folder).write_data(DataFile(content_hash="d" * 16))
    assert len(judged(folders).verdicts) == 1


def test_metric_margin_and_dialect_must_be_one(folders: tuple[Path, Path]) -> None:
    one, two = folders
    write_spec(two, methods=["zero_shot", "lora", "lora@r=64"], seeds=2, metric="rouge2", margin=1)
    assert (
        judged(folders).reason == "they are judged by different metrics (one: rouge1, two: rouge2); add --metric NAME"
    )
    assert judged(folders, metric="rouge1").reason == "their margins differ (one: 0.5, two: 1); add --margin POINTS"
    [verdict] = judged(folders, metric="rouge1", margin=2).verdicts
    assert verdict.margin == 2
    assert any("exploratory" in sentence for sentence in verdict.sentences)
    for folder, signature in ((one, "a"), (two, "b")):
        for run in run_dirs(folder):
            edit_record(run, signature=signature)
    assert judged(folders, metric="rouge1", margin=1).reason == "their ROUGE-1 is not the same (one: a; two: b)"


def test_base_models_are_not_compared(folders: tuple[Path, Path]) -> None:
    for folder, weights in zip(folders, "ab", strict=True):
        for run in run_dirs(folder):
            edit_record(run, provenance=Provenance(model=ModelProvenance(name="starter", content_hash=weights * 16)))
    assert "have no base model in common" in str(judged(folders).reason)


def test_what_else_differs_is_named(folders: tuple[Path, Path]) -> None:
    def confounds() -> set[str]:
        named = [(path.name, load(path).records) for path in folders]
        assert confounds_between(named) == []
        return {confound.aspect for confound in confounds_between(named, settings=True)}

    assert confounds() == set()
    for path, digest, steps in zip(folders, "de", (1, 2), strict=True):
        point = TrainPoint(step=steps, epoch=1, seconds=1, loss=1, learning_rate=1, grad_norm=1, tokens=1)
        provenance = Provenance(data=DataProvenance(description="x", content_hash=digest * 16))
        for run in run_dirs(path):
            edit_record(run, curve=Curve(train=[point]), provenance=provenance)
            edit_spec(run, prompt=PromptSpec(cue=digest))
    assert confounds() == {"data", "prompt", "training effort"}


def test_unequal_searches_are_named(folders: tuple[Path, Path]) -> None:
    write_spec(folders[1], methods=["zero_shot", "lora", "lora@r=64"], seeds=2, trials=4)
    [verdict] = judged(folders).verdicts
    said = "Caution: the settings of a method were chosen by different numbers of trials (one 0, two 4)."
    assert said in verdict.sentences


def test_of_a_study_that_stopped_when_it_was_settled_only_planned_seeds_count(folders: tuple[Path, Path]) -> None:
    one, two = folders
    for folder in run_dirs(two):
        if folder.name.endswith("lora-s1"):
            for seed in (2, 3):
                copy = RunDir(folder.path.with_name(f"starter-lora-s{seed}"))
                shutil.copytree(folder.path, copy.path)
                edit_spec(copy, seed=seed)
    write_spec(two, methods=["zero_shot", "lora", "lora@r=64"], until_settled=True, seeds=4, looks=[3, 4])
    [verdict] = judged((one, two)).verdicts
    assert "Of two, which stopped when it was settled, only the seeds of the first look are used." in verdict.sentences


def test_folds_of_one_row_are_the_same_runs(tmp_path: Path) -> None:
    one = study_folder(tmp_path)
    StudyDir(one).write_documents(row.model_copy(update={"document": f"text {row.id}"}) for row in load(one).documents)
    divide_into_folds(one)
    write_spec(one, methods=["zero_shot", "lora", "full"], seeds=2, data={"train_file": "x", "folds": 2})
    two = one.with_name("two")
    shutil.copytree(one, two)
    [verdict] = judged((one, two)).verdicts
    assert [result.method for result in verdict.methods] == ["zero_shot", "lora", "full"]
    assert verdict.documents == 40
    for run in run_dirs(two):
        if "lora" in run.name and run.name.endswith("fold2"):
            edit_record(run, run_id=f"another-{run.name}")
    [verdict] = judged((one, two)).verdicts
    assert [result.method for result in verdict.methods] == ["zero_shot", "one: lora", "full", "two: lora"]
