"""Everything that the records of a study say, for each base model: verdict, data sizes and claims."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tuneoff.errors import UserError
from tuneoff.metrics.registry import METRICS, deciding_metric
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import DataSizeVerdict, JudgedClaim, Verdict
from tuneoff.spec import StudySpec
from tuneoff.spec.study import MARGIN, METRIC
from tuneoff.text import join_words
from tuneoff.verdict.claims import judge_claims
from tuneoff.verdict.confounds import confounds_between_sizes
from tuneoff.verdict.data_sizes import judge_sizes
from tuneoff.verdict.decide import decide
from tuneoff.verdict.decide_by_looks import decide_by_looks
from tuneoff.verdict.grouping import grouped
from tuneoff.verdict.looks import looks_of, replayed
from tuneoff.verdict.outputs import nothing_learned, useless_method
from tuneoff.verdict.scores import Scores, load_scores
from tuneoff.verdict.training_sizes import training_sizes


@dataclass(frozen=True)
class JudgedModel:
    """What a study says about one base model.

    `data_sizes` is None if fewer than two fractions of the data can be judged.
    """

    scores: Scores
    verdict: Verdict
    data_sizes: DataSizeVerdict | None
    claims: tuple[JudgedClaim, ...]


def judge_study(study: StoredStudy, metric: str | None = None, margin: float | None = None) -> list[JudgedModel]:
    """Judge the records of a study: one `JudgedModel` for each base model, in the order of their names.

    Args:
        study: the study, finished or not.
        metric: a metric in which more is better, in any usual spelling; None for the study's own.
        margin: difference that does not matter in practice, in points; None for the study's own.

    Raises:
        UserError: the metric cannot decide, there is no final run on all the data, or a file is damaged.
    """
    try:
        metric = deciding_metric(planned_metric(study) if metric is None else metric)
    except UserError as error:
        raise UserError(f"--metric: {error}") from error
    margin = planned_margin(study) if margin is None else margin
    exploratory = exploratory_choices(study, margin, metric)
    examples = study.data.train_examples
    smaller = smaller_fractions(study, metric)
    runs_of = grouped(study.runs, lambda run: run.record.spec.model.name)
    found = []
    for scores in load_scores(study, metric):
        by_fraction = smaller.get(scores.block, {})
        verdict = decide_study(study, scores, margin, smaller=tuple(by_fraction.values()))
        verdict = verdict.model_copy(update={"sentences": (*verdict.sentences, *exploratory)})
        runs = study.runs if scores.block is None else runs_of[scores.block]
        own = [run.record for run in runs]
        scored = {**by_fraction, 1.0: _planned_scores(study, scores)}
        sizes = None
        if examples:
            read = training_sizes(own, scored, examples)
            sizes = judge_sizes(scored, read, margin, cautions=confounds_between_sizes(own))
        claims = _claims(study.spec, scores.block, own, verdict, sizes, margin)
        no_winner = verdict.says_nothing or scores.says_nothing or nothing_learned(own) or _useless_best(runs, verdict)
        verdict = verdict.model_copy(update={"no_winner": no_winner})
        found.append(JudgedModel(scores, verdict, sizes, claims))
    return found


def decide_study(study: StoredStudy, scores: Scores, margin: float, *, smaller: Sequence[Scores] = ()) -> Verdict:
    """The verdict on one base model of a study, by `scores` of its runs; see `decide`.

    A study that stops when it is settled is judged by its looks. These follow from its own metric and margin, and are
    repeated with `scores` and `margin`.
    """
    if study.spec is None or not study.spec.until_settled:
        return decide(scores, margin, smaller=smaller)
    own = next(one for one in load_scores(study, planned_metric(study)) if one.block == scores.block)
    looks = looks_of(study, own)
    if scores != own or margin != study.spec.margin:
        looks = replace(looks, taken=replayed(looks.taken, scores, looks.planned, margin))
    return decide_by_looks(scores, looks, margin)


def _planned_scores(study: StoredStudy, scores: Scores) -> Scores:
    """The scores at all the data that were planned whatever the looks show: those of the seeds of the first look."""
    if study.spec is None or not study.spec.until_settled:
        return scores
    first = study.spec.looks[0]
    return replace(scores, scores={key: row for key, row in scores.scores.items() if key[1] < first})


def smaller_fractions(study: StoredStudy, metric: str) -> dict[str | None, dict[float, Scores]]:
    """Base model -> fraction of the data below 1 -> the scores of the runs trained on it."""
    fractions = {run.record.spec.fraction for run in study.runs if run.record.spec.role == "final"} - {1.0}
    found: dict[str | None, dict[float, Scores]] = {}
    for fraction in sorted(fractions):
        for scores in load_scores(study, metric, fraction=fraction):
            found.setdefault(scores.block, {})[fraction] = scores
    return found


def _useless_best(runs: Iterable[StoredRun], verdict: Verdict) -> str | None:
    """Why the best method that could be handed over is of no use, as sentences; None if it is, or without a verdict."""
    finished = [run for run in runs if run.record.spec.is_main and run.record.status == "finished"]
    runs_of = grouped(finished, lambda run: run.record.spec.method.name)
    own = [result for result in verdict.methods if result.method in runs_of]
    if not own:
        return None
    best = max(own, key=lambda result: result.mean)
    return useless_method(best.title, [run.outputs for run in runs_of[best.method]])


def _claims(
    spec: StudySpec | None,
    block: str | None,
    records: Sequence[Record],
    verdict: Verdict,
    sizes: DataSizeVerdict | None,
    margin: float,
) -> tuple[JudgedClaim, ...]:
    if spec is None:
        return ()
    seeds = spec.looks[0] if spec.until_settled else spec.seeds
    judged = judge_claims(spec.claims, records, verdict, sizes, margin, seeds=seeds)
    return tuple(claim.model_copy(update={"model": block}) for claim in judged)


def planned_margin(study: StoredStudy) -> float:
    """The margin that the study was planned with, in points."""
    return study.spec.margin if study.spec else MARGIN


def planned_metric(study: StoredStudy) -> str:
    """The name of the metric that the study was planned with."""
    return study.spec.metric if study.spec else METRIC


def exploratory_choices(
    study: StoredStudy, margin: float, metric: str, *, other_dialect: bool = False
) -> Sequence[str]:
    """A sentence if a verdict was reached by other choices than those made before the runs; empty otherwise.

    `margin` is in points. `other_dialect`: the scores are of another ROUGE dialect than the study's.
    """
    chosen = []
    planned = planned_margin(study)
    if metric != (own := planned_metric(study)):
        chosen.append(f"{METRICS[metric].title} instead of {METRICS[own].title if own in METRICS else own}")
    if other_dialect:
        chosen.append("another ROUGE dialect than the study's")
    if margin != planned:
        chosen.append(f"a margin of {margin:g} points instead of {planned:g}")
    if not chosen:
        return []
    return [f"Judged by {join_words(chosen)}: exploratory, unless that was chosen before the results were seen."]
