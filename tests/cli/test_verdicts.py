"""What the judging commands print, as text and as JSON."""

import json
import shutil
from pathlib import Path

import pytest

from support.verdict_study import edit_record, edit_spec, load, run_dirs, study_folder, write_spec
from tuneoff.cli import main, verdicts
from tuneoff.errors import UserError
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Document, Prediction
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import DataFile
from tuneoff.verdict import find_model_to_use, judge_study

METHODS = ["zero_shot", "lora", "full"]


def judge(*folders: Path, metric: str = "rouge1", margin: float | None = None) -> str:
    return verdicts.judge_output(folders, metric, margin, [], as_json=False)


def rescore(folder: Path, margin: float | None = None, words: str | None = None, references: str = "best") -> str:
    return verdicts.rescore_output(folder, margin, stemmer=True, references=references, words=words, as_json=False)


@pytest.fixture
def texts_study(tmp_path: Path) -> Path:
    """A study whose documents have references and whose runs have texts."""
    study = StudyDir(study_folder(tmp_path))
    study.write_documents(
        Document(id=row.id, group=row.group, document="", references=("models learn",))
        for row in study.read_documents()
    )
    for folder in study.run_dirs():
        rows = folder.read_predictions()
        folder.write_predictions(Prediction(id=row.id, text="a model learns", scores=row.scores) for row in rows)
    return study.path


def test_judge_prints_regret_bounds_and_every_sentence(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    out = judge(study)
    rows = {line.split()[0]: line for line in out.splitlines() if "  regret bound" in line}
    assert rows["Zero-shot"].endswith("another method is better")
    assert rows["LoRA"].endswith("not settled")
    [judged] = judge_study(load(study))
    assert all(f"  {sentence}\n" in f"{out}\n" for sentence in judged.verdict.sentences)
    assert judge(study, margin=3.0) != out


def test_judge_prints_data_sizes_and_claims(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    for folder in run_dirs(study):
        copy = RunDir(folder.path.with_name(f"{folder.name}-tenth"))
        shutil.copytree(folder.path, copy.path)
        edit_spec(copy, fraction=0.1)
    claim = {"text": "much better", "kind": "at_least", "methods": ["zero_shot", "lora"]}
    write_spec(study, methods=METHODS, seeds=2, claims=[claim], fractions=[0.1, 1])
    StudyDir(study).write_data(DataFile(counts={"train": 1000}))
    out = judge(study, margin=50)
    assert "  Claim, supported: much better (difference -" in out
    assert "  Data size: " in out
    [row] = json.loads(verdicts.judge_output([study], "rouge1", None, [], as_json=True))
    assert [one["outcome"] for one in row["claims"]] == ["contradicted"]
    assert row["data_sizes"]["crossovers"]
    assert row["best"] == judge_study(load(study))[0].verdict.best


@pytest.mark.parametrize("margin", [float("nan"), float("inf"), -1.0])
def test_a_margin_that_is_not_a_number_of_points_is_refused(margin: float, texts_study: Path) -> None:
    for command in (judge, rescore):
        with pytest.raises(UserError, match="--margin"):
            command(texts_study, margin=margin)


def test_ratings_belong_to_one_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs exactly one study folder"):
        verdicts.judge_output([tmp_path, tmp_path / "b"], "rouge1", None, [tmp_path / "ratings.json"], as_json=False)


def test_rescore_uses_the_words_of_the_study(texts_study: Path) -> None:
    other = "Judged by another ROUGE dialect than the study's"
    assert other not in rescore(texts_study)
    assert other in rescore(texts_study, words="unicode")
    write_spec(texts_study, methods=METHODS, seeds=2, score={"words": "unicode"})
    own = rescore(texts_study)
    assert "|words:unicode|" in own
    assert other not in own
    assert other in rescore(texts_study, words="english")


def test_rescore_names_the_values_that_it_knows(texts_study: Path) -> None:
    with pytest.raises(UserError, match="--rouge-words letters: use english, unicode or characters"):
        rescore(texts_study, words="letters")
    with pytest.raises(UserError, match="--references all: use best or first"):
        rescore(texts_study, references="all")


def test_rescore_as_json_has_runs_and_verdicts(texts_study: Path) -> None:
    out = verdicts.rescore_output(texts_study, None, stemmer=False, references="first", words=None, as_json=True)
    found = json.loads(out)
    assert {row["run"] for row in found["runs"]} == {"zero_shot-s0", "lora-s0", "lora-s1", "full-s0", "full-s1"}
    assert [verdict["metric"] for verdict in found["verdicts"]] == ["rouge1"]
    assert "signature" in found


def test_diff_lists_runs_of_one_study(texts_study: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(texts_study, tmp_path / "other"))
    shutil.rmtree(StudyDir(other).run_dir("starter-full-s1").path)
    out = verdicts.diff_output(texts_study, other, as_json=False)
    assert f"only in {texts_study}: starter/full/seed 1/fraction 1" in out
    assert "starter/lora/seed 0/fraction 1" in out
    assert "+0.00  training  +0.00, scoring  +0.00" in out
    found = json.loads(verdicts.diff_output(texts_study, other, as_json=True))
    assert found["only_first"] == ["starter/full/seed 1/fraction 1"]


@pytest.mark.parametrize("file", ["documents.jsonl", "runs/starter-lora-s0/predictions.jsonl"])
def test_a_damaged_file_is_one_sentence(texts_study: Path, file: str) -> None:
    (texts_study / file).write_bytes(b"{broken\n")
    for command in (judge, rescore):
        with pytest.raises(UserError, match=Path(file).name) as error:
            command(texts_study)
        assert "\n" not in str(error.value)


def test_control_codes_do_not_reach_the_terminal(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    StudyDir(study).write_outside(
        {"api": [Prediction(id=name, text="", scores={"rouge1": 1.0}) for name in load(study).groups]}
    )
    (study / "outside" / "api.jsonl").rename(study / "outside" / "a\x1b[31mpi.jsonl")
    out = judge(study)
    assert "a?[31mpi" in out
    assert "\x1b" not in out


def test_the_run_to_use_is_the_one_of_the_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_folder(tmp_path)
    found = find_model_to_use(load(study))
    assert verdicts.select_run(study, None, None).name == found.run
    described = verdicts.describe_choice(found, study)
    assert capsys.readouterr().err == f"{described}\n"
    assert found.why in described
    assert verdicts.select_run(Path(described.rpartition(": ")[2]), None, None).name == found.run
    assert verdicts.select_run(study, "zero-shot", None).name == "starter-zero_shot-s0"


def test_a_run_folder_is_used_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_folder(tmp_path)
    folder = run_dirs(study)[0]
    run = verdicts.select_run(folder.path, None, None)
    assert (run.name, run.record) == (folder.name, folder.read_record())
    assert not capsys.readouterr().err
    with pytest.raises(UserError, match="name the study folder"):
        verdicts.select_run(folder.path, "lora", None)
    with pytest.raises(UserError, match=r"contains no record\.json"):
        verdicts.select_run(tmp_path / "nowhere", None, None)


def test_studies_are_judged_together_or_it_is_said_why_not(tmp_path: Path) -> None:
    one = study_folder(tmp_path)
    two = tmp_path / "other"
    shutil.copytree(one, two)
    assert "study and other have no common verdict: study and other keep no texts (--no-texts), so" in judge(one, two)
    for folder in (one, two):
        StudyDir(folder).write_data(DataFile(content_hash="d" * 16))
    for run in run_dirs(two):
        edit_record(run, run_id=f"another-{run.name}")
    lines = judge(one, two).splitlines()
    after = lines[lines.index("study and other together, rouge1") :]
    assert any(line.startswith("  LoRA (other) ") for line in after)
    rows = json.loads(verdicts.judge_output([one, two], None, None, [], as_json=True))
    [together] = [row for row in rows if "studies" in row]
    assert together["studies"] == [str(one), str(two)]
    assert len(together["methods"]) == 6


def test_a_page_about_the_rows_of_two_studies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = study_folder(tmp_path)
    two = tmp_path / "other"
    shutil.copytree(one, two)
    page = tmp_path / "pages" / "both.html"
    command = ["judge", str(one), str(two), "--report", str(page)]
    assert main(command) == 2
    assert "there is no common verdict to report (study and other keep no texts" in capsys.readouterr().err
    assert not page.exists()
    for folder in (one, two):
        StudyDir(folder).write_data(DataFile(content_hash="d" * 16, description="data of " + folder.name))
    for run in run_dirs(two):
        edit_record(run, run_id=f"another-{run.name}")
    assert main(command) == 0
    output = capsys.readouterr()
    assert f"report: {page}" in output.err
    text = page.read_text(encoding="utf-8")
    assert all(
        words in text for words in ("LoRA (other)", "LoRA (study)", "study: data of study; other: data of other")
    )
    assert text.count('<th scope="row"') == 6 + 15  # rows, and pairs of them
    assert main(["judge", str(one), "--report", str(page)]) == 2
    assert "only one study was named; tuneoff report writes its page" in capsys.readouterr().err
