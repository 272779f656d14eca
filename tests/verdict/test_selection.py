"""Which run a study hands over: the method by the verdict, the seed by validation."""

from pathlib import Path

import pytest

from support.verdict_study import add_run, study_folder
from tuneoff.cli import main
from tuneoff.errors import UserError
from tuneoff.results.run_record import read_documents, read_record, run_folders, write_jsonl, write_record
from tuneoff.verdict.judge import judge_study
from tuneoff.verdict.selection import find_winner
from tuneoff.verdict.summarize import summarize


def with_loss(folder: Path, loss: float | None) -> None:
    record = read_record(folder)
    curve = record.curve.model_copy(update={"best_validation_loss": loss})
    write_record(folder, record.model_copy(update={"curve": curve}))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    made = study_folder(tmp_path)
    for folder in run_folders(made):
        record = read_record(folder)
        with_loss(folder, 2.0 - record.spec.seed / 10)
    return made


def test_the_highest_mean_and_of_its_seeds_the_lowest_validation_loss(study: Path) -> None:
    [whole] = judge_study(study)
    found = find_winner(study)
    assert found.method == whole.verdict.best
    assert found.seed == 1
    assert read_record(study / "runs" / found.run).spec.seed == 1
    assert "of its 2 seeds the one with the lowest validation loss" in found.why
    with_loss(study / "runs" / found.run, 9.0)
    assert find_winner(study).seed == 0


def test_what_may_be_the_best_too_is_named(study: Path) -> None:
    found, [whole] = find_winner(study), judge_study(study)
    assert len(whole.verdict.best_set) == 2
    [other] = set(whole.verdict.best_set) - {found.method}
    assert f"{whole.scores.title(other)} may be the best too" in found.why
    assert find_winner(study, other).method == other
    assert find_winner(study, other).why.startswith("the method that was asked for")


def test_an_outside_system_is_nothing_to_hand_over(study: Path) -> None:
    rows = [{"id": one.id, "text": "", "scores": {"rouge1": 99.0}} for one in read_documents(study)]
    write_jsonl(study / "outside" / "api.jsonl", rows)
    [whole] = judge_study(study)
    assert whole.verdict.best == "api"
    assert find_winner(study).method in {"lora", "full"}
    assert find_winner(study).why.startswith("the highest mean but for api, which leaves nothing to use; of its")


def test_of_several_models_the_better_one_unless_one_is_asked_for(tmp_path: Path) -> None:
    made = study_folder(tmp_path, models=("a/x", "b/y"))
    best = {whole.verdict.block: max(result.mean for result in whole.verdict.methods) for whole in judge_study(made)}
    assert find_winner(made).model == max(best, key=best.__getitem__)
    assert find_winner(made, model="a/x").model == "a/x"
    assert find_winner(made, model="b/y").model == "b/y"
    assert find_winner(made, model="b/y").why.startswith("the highest mean on that model")
    with pytest.raises(UserError, match=r"--model c/z: the study has no finished run of it; there are a/x, b/y"):
        find_winner(made, model="c/z")


def test_examples_that_were_kept_out_of_the_folder_cannot_be_handed_over(tmp_path: Path) -> None:
    """Few-shot leaves documents, which --no-texts takes out again."""
    for name, mean in (("few_shot", 60.0), ("lora", 30.0)):
        folder = add_run(tmp_path, name, 0, {"a": mean, "b": mean + 1})
        record = read_record(folder)
        kind = "prompt" if name == "few_shot" else "peft"
        left = record.artefact.model_copy(update={"format": kind, "files": ("shots.json",) if kind == "prompt" else ()})
        write_record(folder, record.model_copy(update={"artefact": left}))
    assert find_winner(tmp_path).method == "lora"
    shots = tmp_path / "runs" / "starter-few_shot-s0" / "artefact" / "shots.json"
    shots.parent.mkdir()
    shots.write_text("[]")
    assert find_winner(tmp_path).method == "few_shot"
    assert not find_winner(tmp_path).card


def test_one_method_alone_is_handed_over_without_a_verdict(tmp_path: Path) -> None:
    add_run(tmp_path, "lora", 0, {"a": 1.0, "b": 2.0})
    assert find_winner(tmp_path).method == "lora"


def test_only_what_finished_can_be_used(study: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    add_run(other, "lora", 0, {"a": 1.0}, status="failed")
    with pytest.raises(UserError, match="no finished run on all the data"):
        find_winner(other)
    with pytest.raises(UserError, match="--method dora: the study has no finished run of it; there are full, lora, z"):
        find_winner(study, "dora")


def test_summary_and_command_name_the_same_run(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_winner(study)
    assert summarize(study)["use"] == found.model_dump(mode="json")
    monkeypatch.setattr("tuneoff.run.summarize_texts", lambda run, _documents: [f"by {run.name}"])
    document = tmp_path / "document.txt"
    document.write_text("A text.")
    assert main(["summarize", str(study), str(document)]) == 0
    out, err = capsys.readouterr()
    assert out == f"by {found.run}\n"
    assert found.why in err
    assert main(["summarize", str(study), str(document), "--method", "zero-shot"]) == 0
    assert capsys.readouterr().out == "by starter-zero_shot-s0\n"
    assert main(["summarize", str(study / "runs" / found.run), str(document), "--method", "lora"]) == 2
    assert "name the study's folder" in capsys.readouterr().err
