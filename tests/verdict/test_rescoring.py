"""Stored texts scored again: the same dialect gives the same scores, another one other scores."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.verdict_study import edit_predictions, load, run_dirs, study_folder, write_spec
from tuneoff.errors import UserError
from tuneoff.metrics import RougeDialect
from tuneoff.results.study_dir import StudyDir
from tuneoff.verdict import rescoring
from tuneoff.verdict.rescoring import rescore


def test_a_dialect_changes_the_scores(texts_study: Path) -> None:
    same, _ = rescore(load(texts_study), RougeDialect())
    assert all(row.after == pytest.approx(row.before) for row in same)
    plain, [verdict] = rescore(load(texts_study), RougeDialect(stemmer=False))
    assert all(row.after < row.before for row in plain)  # without a stemmer "model" is not "models"
    assert {result.method for result in verdict.methods} == {"zero_shot", "lora", "full"}
    means = {result.method: result.mean for result in verdict.methods}
    assert means["zero_shot"] == pytest.approx(next(row.after for row in plain if row.run.startswith("zero")))


def test_the_margin_is_that_of_the_study_unless_another_is_requested(texts_study: Path) -> None:
    write_spec(texts_study, methods=["zero_shot", "lora", "full"], seeds=2, margin=3.0)
    _, [own] = rescore(load(texts_study), RougeDialect())
    _, [requested] = rescore(load(texts_study), RougeDialect(), margin=0.25)
    assert (own.margin, requested.margin) == (3.0, 0.25)


def test_another_choice_is_exploratory(texts_study: Path) -> None:
    def sentences(dialect: RougeDialect, margin: float | None = None) -> str:
        _, [verdict] = rescore(load(texts_study), dialect, margin)
        return " ".join(verdict.sentences)

    assert "exploratory, unless" not in sentences(RougeDialect())
    assert "Judged by a margin of 2 points instead of 0.5: exploratory" in sentences(RougeDialect(), 2.0)
    assert "Judged by another ROUGE dialect than the study's: exploratory" in sentences(RougeDialect(stemmer=False))


def test_the_words_of_the_study_are_not_another_dialect(texts_study: Path) -> None:
    def exploratory(words: str) -> bool:
        _, [verdict] = rescore(load(texts_study), RougeDialect.of(words))  # type: ignore[arg-type]
        return any("another ROUGE dialect" in sentence for sentence in verdict.sentences)

    assert not exploratory("english")
    assert exploratory("unicode")
    write_spec(texts_study, methods=["zero_shot", "lora", "full"], seeds=2, score={"words": "unicode"})
    assert not exploratory("unicode")
    assert exploratory("english")


def test_a_study_is_scored_again_by_its_own_metric(texts_study: Path) -> None:
    write_spec(texts_study, methods=["zero_shot", "lora", "full"], seeds=2, metric="rougeL_mean")
    rows, [verdict] = rescore(load(texts_study), RougeDialect())
    assert verdict.metric == "rougeL_mean"
    assert all(row.after == pytest.approx(row.before) for row in rows)
    write_spec(texts_study, methods=["zero_shot", "lora", "full"], seeds=2, metric="of_a_package")
    with pytest.raises(UserError, match="judged by of_a_package, which is not a ROUGE"):
        rescore(load(texts_study), RougeDialect())


def test_outside_systems_are_scored_again_too(texts_study: Path) -> None:
    StudyDir(texts_study).write_outside({"api": run_dirs(texts_study)[0].read_predictions()})
    plain, [verdict] = rescore(load(texts_study), RougeDialect(stemmer=False))
    [api] = [row for row in plain if row.run == "api"]
    assert api.after < api.before
    assert {result.method: result.mean for result in verdict.methods}["api"] == pytest.approx(api.after)


def test_without_references_nothing_can_be_scored(tmp_path: Path) -> None:
    study = StudyDir(study_folder(tmp_path))
    study.write_documents(row.model_copy(update={"references": ()}) for row in study.read_documents())
    with pytest.raises(UserError, match="--no-texts"):
        rescore(study.load(), RougeDialect())


def test_withheld_texts_are_not_scored_as_empty(texts_study: Path) -> None:
    folder = run_dirs(texts_study)[0]
    edit_predictions(folder, lambda row: row.model_copy(update={"scores": row.scores | {"empty": 0.0}}))
    rescore(load(texts_study), RougeDialect())
    edit_predictions(folder, lambda row: row.without_text())
    with pytest.raises(UserError, match=f"{folder.path}: contains no texts to score again"):
        rescore(load(texts_study), RougeDialect())


def test_texts_that_are_too_long_for_rouge_are_named(texts_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescoring, "_MOST_PAIRS", 100)
    with pytest.raises(
        UserError, match=r"the text for .* have 1. and 22 characters, too many for a common subsequence"
    ):
        rescore(load(texts_study), RougeDialect())


def test_a_text_without_its_document_is_named(texts_study: Path) -> None:
    edit_predictions(run_dirs(texts_study)[0], lambda row: row.model_copy(update={"id": f"other {row.id}"}))
    with pytest.raises(UserError, match=r"has texts for documents that documents\.jsonl does not contain"):
        rescore(load(texts_study), RougeDialect())


@pytest.mark.parametrize("content", [b'{"id": 3}\n', b"\xff\xfe\n", b"{broken\n", b"[]\n"])
@pytest.mark.parametrize("file", ["documents.jsonl", "runs/starter-lora-s0/predictions.jsonl"])
def test_a_damaged_file_is_named(texts_study: Path, file: str, content: bytes) -> None:
    (texts_study / file).write_bytes(content)
    with pytest.raises(UserError, match=Path(file).name) as error:
        rescore(load(texts_study), RougeDialect())
    assert "\n" not in str(error.value)


def test_a_folder_without_runs_has_nothing_to_score(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no run"):
        rescore(load(tmp_path), RougeDialect())


def test_nothing_is_written(texts_study: Path, file_times: Callable[[Path], dict[str, int]]) -> None:
    before = file_times(texts_study)
    rescore(load(texts_study), RougeDialect(stemmer=False))
    assert file_times(texts_study) == before
