"""Old studies judged anew: the same records, the same verdict; drift of training and of scoring apart."""

import json
import shutil
from pathlib import Path

import pytest

from support.verdict_study import study_folder
from tuneoff.cli import main
from tuneoff.errors import UserError
from tuneoff.metrics import RougeDialect, rouge
from tuneoff.results.run_record import (
    Document,
    Prediction,
    read_documents,
    read_predictions,
    read_record,
    run_folders,
    write_documents,
    write_jsonl,
    write_predictions,
    write_record,
)
from tuneoff.verdict import rescoring
from tuneoff.verdict.decide import decide
from tuneoff.verdict.load import load_scores


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A study with texts and references, scored with the stemmer."""
    study = study_folder(tmp_path)
    documents = [
        Document(id=row.id, group=row.group, document="", references=("models learning papers", "other words"))
        for row in read_documents(study)
    ]
    write_documents(study, documents)
    for number, folder in enumerate(run_folders(study)):
        rows = []
        for place, row in enumerate(read_predictions(folder)):
            text = ("model learns paper", "the model is other", "papers")[(place + number) % 3]
            rows.append(
                Prediction(id=row.id, text=text, scores=rouge(text, documents[place].references, RougeDialect()))
            )
        write_predictions(folder, rows)
    return study


def test_judging_again_gives_the_same_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_folder(tmp_path)
    expected = decide(load_scores(study)[0])
    assert [(path, whole.verdict) for path, whole in rescoring.judge([study, study])] == [(study, expected)] * 2
    assert main(["judge", str(study), "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["best"] == expected.best
    assert main(["judge", str(study), "--margin", "3"]) == 0
    wider = decide(load_scores(study)[0], margin=3)
    assert wider.sentences != expected.sentences
    shown = " ".join(capsys.readouterr().out.split())
    for sentence in wider.sentences:
        assert " ".join(sentence.split()) in shown


def test_a_study_is_judged_by_its_own_margin_unless_another_is_asked_for(told: Path) -> None:
    path = told / "study.json"
    plan = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(plan | {"margin": 3.0}), encoding="utf-8")
    [(_, own)] = rescoring.judge([told])
    [(_, asked)] = rescoring.judge([told], margin=0.25)
    _, [scored] = rescoring.rescore(told, RougeDialect())
    assert (own.verdict.margin, asked.verdict.margin, scored.margin) == (3.0, 0.25, 3.0)


def test_a_choice_that_differs_from_the_planned_one_is_told(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*flags: str) -> str:
        assert main(["judge", str(told), *flags]) == 0
        return " ".join(capsys.readouterr().out.split())

    assert "exploratory, unless" not in said("--margin", "0.5", "--metric", "rouge1")
    assert "Judged by a margin of 1 points instead of 0.5: exploratory, unless" in said("--margin", "1")
    both = "Judged by ROUGE-2 instead of ROUGE-1 and a margin of 2 points instead of 0.5: exploratory, unless"
    assert both in said("--margin", "2", "--metric", "rouge2")


def test_rescoring_tells_the_same(told: Path) -> None:
    def said(dialect: RougeDialect, margin: float | None = None) -> str:
        _, [verdict] = rescoring.rescore(told, dialect, margin)
        return " ".join(verdict.sentences)

    assert "exploratory, unless" not in said(RougeDialect())
    assert "Judged by a margin of 2 points instead of 0.5: exploratory" in said(RougeDialect(), 2.0)
    assert "Judged by another ROUGE dialect than the study's: exploratory" in said(RougeDialect(stemmer=False))


def test_other_words_are_another_dialect_unless_they_are_the_studys(
    told: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*flags: str) -> str:
        assert main(["rescore", str(told), *flags]) == 0
        return " ".join(capsys.readouterr().out.split())

    other = "Judged by another ROUGE dialect than the study's"
    assert other not in said()
    assert other in said("--rouge-words", "unicode")
    path = told / "study.json"
    plan = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(plan | {"score": {"words": "unicode"}}), encoding="utf-8")
    own = said()
    assert "|words:unicode|" in own
    assert other not in own
    assert other in said("--rouge-words", "english")
    assert main(["rescore", str(told), "--rouge-words", "letters"]) == 2
    assert "choose english, unicode or characters" in capsys.readouterr().err


def test_a_metric_without_a_direction_decides_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(study_folder(tmp_path)), "--metric", "length"]) == 2
    assert "needs a metric in which more is better" in capsys.readouterr().err


def test_rescoring_changes_what_the_dialect_changes(told: Path) -> None:
    same, _ = rescoring.rescore(told, RougeDialect())
    assert all(row.after == pytest.approx(row.before) for row in same)
    plain, [verdict] = rescoring.rescore(told, RougeDialect(stemmer=False))
    assert all(row.after < row.before for row in plain)  # "model" is no "models" without a stemmer
    assert {result.method for result in verdict.methods} == {"zero_shot", "lora", "full"}
    shown = {result.method: result.mean for result in verdict.methods}
    assert shown["zero_shot"] == pytest.approx(next(row.after for row in plain if row.run.startswith("zero")))


def test_outside_systems_are_scored_again_too(told: Path) -> None:
    rows = [row.model_dump(mode="json") for row in read_predictions(run_folders(told)[0])]
    write_jsonl(told / "outside" / "api.jsonl", rows)
    plain, [verdict] = rescoring.rescore(told, RougeDialect(stemmer=False))
    shown = {result.method: result.mean for result in verdict.methods}
    [api] = [row for row in plain if row.run == "api"]
    assert api.after < api.before
    assert shown["api"] == pytest.approx(api.after)


def test_rescoring_needs_texts(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    write_documents(study, [row.model_copy(update={"references": ()}) for row in read_documents(study)])
    with pytest.raises(UserError, match="--no-texts"):
        rescoring.rescore(study, RougeDialect())


def test_texts_that_were_left_out_are_not_scored_as_empty(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_folders(told)[0]
    rows = [row.model_copy(update={"scores": row.scores | {"empty": 0.0}}) for row in read_predictions(folder)]
    write_predictions(folder, rows)
    assert main(["rescore", str(told)]) == 0
    write_predictions(folder, (row.model_copy(update={"text": ""}) for row in rows))
    capsys.readouterr()
    assert main(["rescore", str(told)]) == 2
    assert f"{folder}: its texts were kept out of the folder (--no-texts)" in capsys.readouterr().err


def test_studies_without_a_document_in_common_are_refused(told: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(told, other)
    folders = run_folders(other)
    for folder in folders[1:]:
        write_predictions(
            folder, (row.model_copy(update={"id": f"other {row.id}"}) for row in read_predictions(folder))
        )
    found = rescoring.diff(told, other)
    assert [run.total is None for run in found.runs] == [run.documents == 0 for run in found.runs]
    assert sum(run.total is None for run in found.runs) == len(folders) - 1
    assert "Runs without a number share no test document." in found.sentences
    assert not any("texts were not kept" in sentence for sentence in found.sentences)
    write_predictions(
        folders[0], (row.model_copy(update={"id": f"other {row.id}"}) for row in read_predictions(folders[0]))
    )
    with pytest.raises(UserError, match="share no test document"):
        rescoring.diff(told, other)


def test_drift_is_told_apart(told: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(told, other)
    folders = {folder.name: folder for folder in run_folders(other)}
    scored = folders["starter-lora-s0"]  # the same texts, all scores one point higher
    write_predictions(
        scored,
        [
            row.model_copy(update={"scores": {"rouge1": (row.scores["rouge1"] or 0) + 1}})
            for row in read_predictions(scored)
        ],
    )
    trained = folders["starter-full-s0"]  # other texts, all scores two points higher
    write_predictions(
        trained,
        [
            row.model_copy(update={"text": row.text + "!", "scores": {"rouge1": (row.scores["rouge1"] or 0) + 2}})
            for row in read_predictions(trained)
        ],
    )
    runs = {run.run: run for run in rescoring.diff(told, other).runs}
    lora, full = runs["starter/lora/seed 0/share 1"], runs["starter/full/seed 0/share 1"]
    assert (lora.training, lora.scoring, lora.same_texts) == pytest.approx((0, 1, 1))
    assert (full.training, full.scoring, full.same_texts) == pytest.approx((2, 0, 0))
    untouched = runs["starter/lora/seed 1/share 1"]
    assert (untouched.total, untouched.same_texts) == (0, 1)


def test_settings_that_are_not_listed_are_counted(told: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(told, other)
    for folder in run_folders(other):
        record = read_record(folder)
        train = {"epochs": 9.0, "max_steps": 9, "min_steps": 9, "batch_size": 9, "warmup": 0.9, "patience": 9}
        spec = record.spec.model_copy(update={"train": record.spec.train.model_copy(update=train)})
        write_record(folder, record.model_copy(update={"spec": spec}))
    assert any("; and 1 more (--json has all)." in said for said in rescoring.diff(told, other).sentences)


def test_studies_that_share_nothing_are_refused(told: Path, tmp_path: Path) -> None:
    other = study_folder(tmp_path / "b", models=("org/other",))
    with pytest.raises(UserError, match="share no finished run"):
        rescoring.diff(told, other)


@pytest.mark.parametrize("margin", ["nan", "inf", "-1"])
def test_a_margin_that_is_none_is_refused(margin: str, told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("judge", "rescore"):
        assert main([command, str(told), "--margin", margin]) == 2
        assert "--margin" in capsys.readouterr().err


def test_a_method_that_is_shown_to_be_worse_is_not_called_unsettled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["judge", str(study_folder(tmp_path))])
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if "  may lose" in line}
    assert rows["Zero-shot"].endswith("another method is better")
    assert rows["LoRA"].endswith("not settled")


@pytest.mark.parametrize("content", [b'{"id": 3}\n', b"\xff\xfe\n", b"{broken\n", b"[]\n"])
@pytest.mark.parametrize("file", ["documents.jsonl", "runs/starter-lora-s0/predictions.jsonl"])
def test_a_damaged_file_is_one_sentence(
    told: Path, tmp_path: Path, file: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(told, other)
    (other / file).write_bytes(content)
    commands = [["judge", str(other)], ["rescore", str(other)]]
    if "predictions" in file:
        commands.append(["diff", str(told), str(other)])
    for command in commands:
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert Path(file).name in said


def test_a_folder_without_runs_has_nothing_to_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rescore", str(tmp_path)]) == 2
    assert "no run there" in capsys.readouterr().err
