"""From given scores to a verdict and a summary: the scale, the margin, and what to say about them.

The statistics are those of a study (`tuneoff.verdict.decide`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePath

import numpy as np

from tuneoff import __version__
from tuneoff.errors import UserError
from tuneoff.metrics.registry import METRICS
from tuneoff.results.study_state import DataFile
from tuneoff.results.summary import ComparisonRow, Finding, Interval, Summary, Verdict
from tuneoff.scores.score_data import ScoreData
from tuneoff.spec.study import MARGIN
from tuneoff.stats.variance_components import Floats
from tuneoff.text import join_words, plural
from tuneoff.verdict.decide import decide
from tuneoff.verdict.mean_interval import mean_interval
from tuneoff.verdict.scores import Scores, tabulate

# With fewer items on which two systems differ, a t interval of binary scores is too narrow: of 5 wins of 5, an exact
# test (McNemar 1947) gives p = 0.06.
_FEWEST_DIFFERENT = 10
_MOST_NAMED = 5
MOST_SYSTEMS = 200
"""All pairs of so many are compared in a minute or two; their number grows with the square."""
_LARGEST_SMALL_SCALE = 10.0  # a maximum above it, up to 100: points
# Metrics of which less is usually better, by a word of their names.
_LESS = ("perplexity", "ppl", "loss", "error", "errors", "wer", "cer", "ter", "brier", "bpb", "latency", "cost")


@dataclass(frozen=True)
class JudgedScores:
    """Given scores, by one metric, with their verdict."""

    data: ScoreData
    scores: Scores
    verdict: Verdict


def judge_scores(
    data: ScoreData, metric: str | None = None, margin: float | None = None, *, higher_is_better: bool = True
) -> JudgedScores:
    """Compare systems by the scores that were given.

    Args:
        data: the scores.
        metric: the metric to judge by; None: the first that most systems have.
        margin: difference that does not matter in practice, in points; None: that of a study where the scale of the
            scores is known, else 0.
        higher_is_better: whether more of the metric is better.

    Raises:
        UserError: there is no such metric, there are too many systems, or the margin is negative or not a number.
    """
    if margin is not None and not 0 <= margin < math.inf:
        raise UserError(f"--margin {margin:g}: use a number of points, 0 or more")
    if len(data.systems) > MOST_SYSTEMS:
        listed = ", ".join(data.systems[:3])
        raise UserError(
            f"{len(data.systems):,} systems ({listed} ...), and at most {MOST_SYSTEMS} are compared at once; name some "
            "with --systems, or another column with --system-column"
        )
    name = _metric(data, metric)
    runs = data.scores[name]
    values = np.array([value for row in runs.values() for value in row.values() if value is not None], dtype=float)
    scale = _Scale.of(values, name)
    notes = [*(_other_metrics(data, name) if metric is None else ()), *scale.notes]
    if margin is None and scale.largest is None:
        notes.append(
            "No difference counts as too small to matter, because the scale of the scores is not known; set a "
            "margin with --margin."
        )
    scores = Scores(
        methods=data.systems,
        scores={
            key: {item: None if value is None else scale.factor * value for item, value in row.items()}
            for key, row in runs.items()
        },
        groups=data.groups,
        deterministic=data.unseeded,
        titles={system: system for system in data.systems},
        metric=name,
        notes=(*notes, *data.notes),
        compared="systems",
        higher_is_better=higher_is_better,
        decimals=scale.decimals,
        scale=math.inf if scale.largest is None else scale.largest,
    )
    default = 0.0 if scale.largest is None else MARGIN
    verdict = decide(scores, default if margin is None else margin)
    cautions = [*_wrong_direction(name, higher_is_better=higher_is_better), *_rare_differences(scores, scale)]
    answer, *others = verdict.sentences
    verdict = verdict.model_copy(update={"sentences": (answer, *cautions, *others)})
    return JudgedScores(data, scores, verdict)


def _metric(data: ScoreData, asked: str | None) -> str:
    if asked is None:
        return max(data.metrics, key=lambda name: len({system for system, _ in data.scores[name]}))
    by_plain = {name.casefold(): name for name in reversed(data.metrics)}
    found = asked if asked in data.scores else by_plain.get(asked.casefold())
    if found is None:
        raise UserError(f"--metric {asked}: the scores have no such metric; use {', '.join(data.metrics)}")
    return found


def _other_metrics(data: ScoreData, name: str) -> Iterator[str]:
    others = [metric for metric in data.metrics if metric != name]
    if others:
        yield f"The scores also have {join_words(others)}; judge by another metric with --metric."


def _wrong_direction(name: str, *, higher_is_better: bool) -> Iterator[str]:
    known = METRICS[name].higher_is_better if name in METRICS else None
    plain = name.casefold().replace("-", "_")
    if higher_is_better and (known is False or any(part in plain.split("_") or part == plain for part in _LESS)):
        yield f"Caution: more counts as better. If less of {name} is better, add --lower-is-better."


@dataclass(frozen=True)
class _Scale:
    """How scores become points: times `factor`. `largest` is the largest possible difference in points, if known."""

    factor: float
    largest: float | None
    decimals: int
    binary: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Floats, metric: str) -> "_Scale":
        """The scale of some known scores of a metric."""
        low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        if low >= 0 and high <= 1:
            binary = bool(np.isin(values, (0.0, 1.0)).all())
            kind = "0 or 1: a mean is the percentage of ones" if binary else "between 0 and 1, and given times 100"
            return cls(100.0, 100.0, 1, binary, (f"Scores are {kind}.",))
        if low >= 0 and _LARGEST_SMALL_SCALE < high <= 100:
            return cls(1.0, 100.0, 1)
        known = METRICS.get(metric)
        if known is not None and low >= 0 and high <= (math.inf if known.scale is None else known.scale):
            return cls(1.0, known.scale, known.digits)
        spread = float(values.std())
        decimals = 1 if spread == 0 else min(6, max(1, 2 - math.floor(math.log10(spread))))
        return cls(1.0, None, decimals)


def _rare_differences(scores: Scores, scale: _Scale) -> Iterator[str]:
    """A sentence on systems whose binary scores differ on so few items that their interval is rough."""
    table = tabulate(scores)
    if not scale.binary or len(table.seeds) > 1 or not len(table.documents):
        return
    rare = []
    for first, second in combinations(range(len(table.methods)), 2):
        different = int((table.values[first, 0] != table.values[second, 0]).sum())
        if 0 < different < _FEWEST_DIFFERENT:
            rare.append(f"{table.methods[first]} and {table.methods[second]} on {different}")
    if rare:
        more = f", and {plural(len(rare) - _MOST_NAMED, 'other pair')}" if len(rare) > _MOST_NAMED else ""
        yield (
            f"Caution: some systems differ on fewer than {_FEWEST_DIFFERENT} items, so the intervals between them are "
            f"rough: {'; '.join(rare[:_MOST_NAMED])}{more}."
        )


def summarize_scores(judged: JudgedScores, name: str) -> Summary:
    """The summary of given scores, for reports. `name` is its heading."""
    verdict, data = judged.verdict, judged.data
    items = {item for row in data.scores[verdict.metric].values() for item in row}
    return Summary(
        name=name,
        created_at="",
        tuneoff_version=__version__,
        primary_metric=verdict.metric,
        data=DataFile(description=", ".join(PurePath(file).name for file in data.files), counts={"test": len(items)}),
        rows=tuple(score_rows(judged.scores)),
        verdicts=(verdict,),
        diagnostics=tuple(
            Finding(check="study", where="the scores", message=reason)
            for reason in (verdict.too_small, verdict.says_nothing)
            if reason is not None
        ),
    )


def score_rows(scores: Scores) -> Iterator[ComparisonRow]:
    """Mean and interval of each system over the items that are compared."""
    table = tabulate(scores)
    for system in scores.methods:
        score, seeds = Interval(), sum(name == system for name, _ in scores.scores)
        compared = seeds
        if system in table.methods and len(table.documents):
            index = table.methods.index(system)
            compared = len(table.seeds) if table.varies[index] else seeds
            by_item = table.values[index].mean(axis=0)
            low, high = mean_interval(by_item, table.group_of) or (None, None)
            score = Interval(mean=float(by_item.mean()), low=low, high=high)
        yield ComparisonRow(
            name=system,
            title=scores.title(system),
            kind="method",
            seeds=seeds,
            compared_seeds=compared,
            scores={scores.metric: score},
        )
