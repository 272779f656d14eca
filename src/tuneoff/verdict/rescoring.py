"""Score the stored texts of a study again, by another ROUGE dialect. Needs no torch and no model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from tuneoff import metrics
from tuneoff.errors import UserError
from tuneoff.results.run_record import Document, Prediction
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import Verdict
from tuneoff.spec import ScoreSpec
from tuneoff.spec.run import Frozen
from tuneoff.verdict.judge import decide_study, exploratory_choices, planned_margin, planned_metric, smaller_fractions
from tuneoff.verdict.scores import load_scores

# Of characters: the library fills a table of all pairs of words, and ends the process if that does not fit.
_MOST_PAIRS = 250_000_000


class RescoredRun(Frozen):
    """One run by the old and the new dialect: means of the study's ROUGE metric in points."""

    run: str
    before: float
    after: float


def rescore(
    study: StoredStudy, dialect: metrics.RougeDialect, margin: float | None = None
) -> tuple[list[RescoredRun], list[Verdict]]:
    """Score the texts of all final runs and outside systems by `dialect`. Writes nothing.

    Returns the change of each run and the new verdict for each base model. `margin` is in points; None for the study's
    own. Raises `UserError` if the folder has no runs or no texts (`--no-texts`).
    """
    if not study.runs:
        raise UserError(f"{study.path}: contains no run; name the folder that `tuneoff compare` wrote")
    documents = {document.id: document for document in study.documents}
    if not any(document.references for document in documents.values()):
        raise UserError(
            f"{study.path}: contains no references, so nothing can be scored again; run the study without --no-texts"
        )
    metric = planned_metric(study)
    if metric not in metrics.ROUGE_NAMES:
        raise UserError(f"{study.path}: judged by {metric}, which is not a ROUGE, so it has no other dialect")
    changed: list[RescoredRun] = []
    finals: dict[tuple[str, str, int], Mapping[str, float | None]] = {}
    for run in study.runs:
        record = run.record
        if record.status == "finished" and record.spec.is_main and (predictions := run.predictions):
            new = _rescored(run.dir.path, predictions, documents, dialect, metric)
            key = record.spec.model.name, record.spec.method.name, record.spec.seed
            finals[key] = {**finals.get(key, {}), **new}  # of all folds
            changed.append(_change(record.name, predictions, new, metric))
    outside: dict[tuple[str, int], Mapping[str, float | None]] = {}
    for name, rows in study.outside.items():
        if rows:
            outside[name, 0] = _rescored(study.path / "outside" / f"{name}.jsonl", rows, documents, dialect, metric)
            changed.append(_change(name, rows, outside[name, 0], metric))
    margin = planned_margin(study) if margin is None else margin
    own_dialect = metrics.RougeDialect.of((study.spec.score if study.spec else ScoreSpec()).words)
    exploratory = exploratory_choices(study, margin, metric, other_dialect=dialect != own_dialect)
    by_fraction = smaller_fractions(study, metric)
    verdicts = []
    for scores in load_scores(study, metric):
        rescored = outside | {
            (method, seed): row
            for (model, method, seed), row in finals.items()
            if scores.block in (None, model) and (method, seed) in scores.scores
        }
        smaller = tuple(by_fraction.get(scores.block, {}).values())  # seeds differ about as much in every dialect
        verdict = decide_study(study, replace(scores, scores=rescored), margin, smaller=smaller)
        verdicts.append(verdict.model_copy(update={"sentences": (*verdict.sentences, *exploratory)}))
    return changed, verdicts


def _rescored(
    source: Path,
    rows: Sequence[Prediction],
    documents: Mapping[str, Document],
    dialect: metrics.RougeDialect,
    metric: str,
) -> dict[str, float | None]:
    """The new `metric` by document id. `source` is named in messages."""
    if any(row.id not in documents for row in rows):
        raise UserError(f"{source}: has texts for documents that documents.jsonl does not contain; restore that file")
    if any(row.text_withheld for row in rows):
        raise UserError(f"{source}: contains no texts to score again; run the study without --no-texts")
    for row in rows:
        longest = max(map(len, documents[row.id].references), default=0)
        if len(row.text) * longest > _MOST_PAIRS:
            raise UserError(
                f"{source}: the text for {row.id[:60]!r} and its reference have {len(row.text):,} and {longest:,} "
                "characters, too many for a common subsequence; shorten them"
            )
    return {row.id: metrics.rouge(row.text, documents[row.id].references, dialect)[metric] for row in rows}


def _change(name: str, rows: Iterable[Prediction], scores: Mapping[str, float | None], metric: str) -> RescoredRun:
    before = fmean(row.scores.get(metric) or 0.0 for row in rows)
    return RescoredRun(run=name, before=before, after=fmean(score or 0.0 for score in scores.values()))
