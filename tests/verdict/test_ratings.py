"""Blind ratings: counted, with an interval over documents, and compared with ROUGE."""

import json
import os
from pathlib import Path

import pytest

from support.verdict_study import edit_predictions, load, run_dirs, study_folder, write_spec
from tuneoff.cli import verdicts
from tuneoff.errors import UserError
from tuneoff.results.study_dir import StudyDir
from tuneoff.verdict.ratings import judge_ratings, read_ratings

RUNS = ("starter-lora-s0", "starter-full-s0")


def rated(study: Path, prefer, count: int = 40) -> Path:
    """Ratings of `count` documents; `prefer(index, better)` names a method, `better` is the one with more ROUGE-1."""
    rows = [
        {row.id: row.scores["rouge1"] or 0 for row in StudyDir(study).run_dir(run).read_predictions()} for run in RUNS
    ]
    ratings = []
    for index, document in enumerate(StudyDir(study).read_documents()[:count]):
        better = "lora" if rows[0][document.id] > rows[1][document.id] else "full"
        ratings.append({"id": document.id, "preferred": prefer(index, better)})
    path = study.parent / "ratings.json"
    content = {"kind": "tuneoff ratings", "study": "x", "runs": RUNS, "methods": ("lora", "full"), "ratings": ratings}
    path.write_text(json.dumps(content))
    return path


def test_a_rater_who_follows_rouge(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    found = judge_ratings(load(study), read_ratings(rated(study, lambda index, better: better)))
    assert found.agreement == 1
    assert found.first + found.second == found.rated == 40
    # 40 texts of 20 documents: Wilson's interval of 20 of 20.
    assert found.agreement_low == pytest.approx(0.8389, abs=1e-4)
    assert found.agreement_high == 1.0
    assert found.sentences[-1] == (
        "ROUGE-1 agrees with the rater on 100 % of 40 texts (83 to 100 %): more often than by chance, which is 50 %."
    )


def test_agreement_on_one_text_says_nothing(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    found = judge_ratings(load(study), read_ratings(rated(study, lambda index, better: better, count=1)))
    assert found.sentences[-1] == (
        "ROUGE-1 agrees with the rater on 100 % of 1 text (20 to 100 %): not shown to differ from chance, which is "
        "50 %."
    )


def test_only_a_clear_preference_is_significant(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    clear = judge_ratings(load(study), read_ratings(rated(study, lambda index, _: "lora" if index % 8 else "full")))
    assert clear.low is not None
    assert clear.low > 0
    assert any("This rater prefers lora" in sentence for sentence in clear.sentences)
    even = judge_ratings(load(study), read_ratings(rated(study, lambda index, _: ("lora", "full")[index // 2 % 2])))
    assert even.balance == 0
    assert any("No significant preference" in sentence for sentence in even.sentences)


def test_a_few_unanimous_ratings_are_not_significant(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    # Two documents with two texts each: tossing a coin for each document gives this every second time.
    few = judge_ratings(load(study), read_ratings(rated(study, lambda *_: "lora", count=4)))
    assert few.low is not None
    assert few.low < 0
    assert any("No significant preference" in sentence for sentence in few.sentences)
    many = judge_ratings(load(study), read_ratings(rated(study, lambda *_: "lora", count=40)))
    assert many.low is not None
    assert 0.5 < many.low < many.balance == 1 == many.high


def test_texts_of_one_document_are_not_independent(tmp_path: Path) -> None:
    """Two ratings of one document that always agree count as one: the interval is sqrt 2 times the naive width."""
    study = study_folder(tmp_path)
    both = judge_ratings(load(study), read_ratings(rated(study, lambda index, _: ("lora", "full")[index // 2 % 2])))
    assert both.high is not None
    naive = 2.02 / 40**0.5
    assert both.high > 1.3 * naive


def test_no_difference_counts_as_nothing(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    found = judge_ratings(load(study), read_ratings(rated(study, lambda index, _: None)))
    assert (found.same, found.balance, found.agreement) == (40, 0, None)


def test_ratings_of_another_study_are_rejected(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    path = rated(study, lambda index, better: better)
    content = json.loads(path.read_text())
    for change, words in (
        ({"runs": ["../x", "y"]}, "has no run"),
        ({"ratings": [{"id": "nobody", "preferred": None}]}, "no rating of a document"),
        ({"ratings": [{"id": StudyDir(study).read_documents()[0].id, "preferred": "dora"}]}, "prefers 'dora'"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match=words):
            judge_ratings(load(study), read_ratings(path))
    path.write_text("[]")
    with pytest.raises(UserError, match="not a file of ratings"):
        read_ratings(path)


def test_ratings_of_texts_that_one_run_lacks_are_not_counted(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    path = rated(study, lambda index, better: better)
    folder = StudyDir(study).run_dir(RUNS[1])
    folder.write_predictions(folder.read_predictions()[:30])
    folder.write_record(folder.read_record())
    found = judge_ratings(load(study), read_ratings(path))
    assert (found.rated, found.left_out) == (30, 10)
    assert found.first + found.second == found.agreed_of == 30
    assert "Not counted: 10 rated documents for which one of the two runs has no output." in found.sentences
    folder.write_predictions([])
    folder.write_record(folder.read_record())
    with pytest.raises(UserError, match="no rating of a document that both runs have"):
        judge_ratings(load(study), read_ratings(path))


def test_one_rating_is_written_as_one(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    found = judge_ratings(load(study), read_ratings(rated(study, lambda *_: "lora", count=1)))
    assert found.left_out == 0
    assert found.sentences[0] == "1 rating: 1 prefers lora, 0 prefer full, 0 neither."


def test_bad_ratings_in_the_folder_do_not_stop_the_verdict(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    rated(study, lambda index, better: better).rename(study / "ratings.json")
    (study / "ratings-deep.json").write_text("[" * 100_000)
    content = json.loads((study / "ratings.json").read_text())
    (study / "ratings-none.json").write_text(json.dumps(content | {"ratings": []}))
    out = verdicts.judge_output([study], "rouge1", None, [], as_json=False)
    assert "LoRA" in out
    assert "ROUGE-1 agrees with the rater on 100 %" in out
    assert out.count("skipped: ") == 2
    rows = json.loads(verdicts.judge_output([study], "rouge1", None, [], as_json=True))
    assert ["problem" in row["ratings"] for row in rows if "ratings" in row] == [True, True, False]


def test_ratings_of_runs_outside_the_plan_are_rejected(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    path = rated(study, lambda index, better: better)
    kept = [folder.name for folder in run_dirs(study) if folder.name != RUNS[0]]
    (study / "plan.json").write_text(json.dumps({"runs": kept}))
    with pytest.raises(UserError, match=f"has no run {RUNS[0]}"):
        judge_ratings(load(study), read_ratings(path))


def test_command(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    assert len(run_dirs(study)) == 5
    path = rated(study, lambda index, better: better)
    out = verdicts.judge_output([study], "rouge1", None, [path], as_json=False)
    assert "ROUGE-1 agrees with the rater on 100 %" in out


def test_the_agreement_is_that_with_the_metric_of_the_study(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    ratings = read_ratings(rated(study, lambda index, better: better))
    write_spec(study, metric="rougeL")
    for folder in run_dirs(study):  # the opposite order
        edit_predictions(
            folder, lambda row: row.model_copy(update={"scores": {"rougeL": -(row.scores["rouge1"] or 0)}})
        )
    found = judge_ratings(load(study), ratings)
    assert found.agreement == 0
    assert found.sentences[-1].startswith("ROUGE-L agrees with the rater on 0 % of")


def test_a_pipe_is_not_a_file_of_ratings(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ratings.json")
    with pytest.raises(UserError, match=r"ratings\.json: a named pipe"):
        read_ratings(tmp_path / "ratings.json")
