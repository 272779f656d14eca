"""How the comparison changes with the training set size: intervals, crossovers and learning curves.

Intervals: a study trains on F fractions of the data. At each fraction the simultaneous intervals of all pairs
(`tuneoff.stats.multiple_comparisons`) have level 1 - 5 %/F, so all intervals of all fractions hold at once with at
least 95 % (Bonferroni). The training sets of one seed are nested and the test documents are the same, so the fractions
are dependent; Bonferroni needs no independence.

Crossovers: one method of a pair may be better on small and the other on large training sets. If each is significantly
better somewhere, and the sign changes once, the crossover lies between the last size of the one sign and the first of
the other. This is right whenever the intervals are, provided that the true difference changes its sign at most once.
Significant signs that change twice or more show that it does not. With the same sign at every fraction one method is
better throughout. Anything else is undetermined.

Sizes: a training set is as large as the part of it that training read (`tuneoff.verdict.training_sizes`).

Learning curves: a power law fitted to the means of each method (`tuneoff.stats.learning_curves`). Its intervals
resample document groups and seeds, the same ones for all fractions. A percentile interval over few seeds is too narrow,
so these numbers are marked as exploratory.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tuneoff.metrics.registry import METRICS
from tuneoff.results.summary import BandPoint, Crossover, CrossoverOutcome, DataSizeVerdict, SizeCurve, SizePoint
from tuneoff.spec.study import MARGIN
from tuneoff.stats.bootstrap import resampled_means
from tuneoff.stats.learning_curves import fit_power_laws, gain_of_doubling, size_where_doubling_stops_paying
from tuneoff.stats.moderation import study_differences
from tuneoff.stats.multiple_comparisons import LEVEL, one_sided_p_values, simultaneous_half_widths
from tuneoff.stats.power import FEWEST_GROUPS
from tuneoff.stats.variance_components import Floats, estimate_means, group_contributions
from tuneoff.verdict.scores import Scores, ScoreTable, has_scores, tabulate, training_means
from tuneoff.verdict.size_sentences import describe_sizes, fraction_notes, missing_runs, single_seeds, size_cautions
from tuneoff.verdict.training_sizes import TrainingSize

_RESAMPLES = 400
_SEED = 20261124
# Means that differ by less, in points, are equal: sums over more or fewer seeds round differently.
_ROUNDING = 1e-9


def judge_sizes(
    fractions: Mapping[float, Scores],
    sizes: Mapping[float, TrainingSize],
    margin: float = MARGIN,
    level: float = LEVEL,
    cautions: Sequence[str] = (),
) -> DataSizeVerdict | None:
    """Compare the methods of one base model at several fractions of the training data.

    A fraction is judged for the methods whose runs are complete there, and a pair of methods at the fractions where
    both are. What is missing is named in the sentences.

    Args:
        fractions: fraction of the data -> scores of the runs trained on it.
        sizes: fraction of the data -> what training on it read.
        margin: difference that does not matter in practice, points.
        level: level of all intervals together.
        cautions: sentences about what differs between fractions besides the data.

    Returns:
        None with fewer than two fractions, two methods, or two document groups that all fractions have.
    """
    methods = list(dict.fromkeys(name for fraction in sorted(fractions) for name in fractions[fraction].methods))
    complete = {fraction: _complete_methods(fractions[fraction]) for fraction in sorted(fractions)}
    tables = {
        fraction: tabulate(replace(fractions[fraction], methods=names)) for fraction, names in complete.items() if names
    }
    if len(tables) < 2:
        return None
    documents = sorted(set.intersection(*(set(table.documents) for table in tables.values())))
    if len(documents) < 2:
        return None
    common = {fraction: _with_documents(table, documents) for fraction, table in tables.items()}
    groups = min(len(np.unique(table.group_of)) for table in common.values())
    if groups < 2:
        return None
    title = fractions[max(fractions)].title
    own_sizes = {fraction: sizes[fraction] for fraction in common}
    read = {fraction: size.read for fraction, size in own_sizes.items()}
    too_few = groups < FEWEST_GROUPS
    limit = _largest_difference(fractions)
    crossovers = () if too_few else find_crossovers(common, read, level, limit, margin)
    curves = tuple(
        _means_only(name, title(name), own, read) if too_few else _learning_curve(name, title(name), own, read, margin)
        for name in methods
        if len(own := {fraction: table for fraction, table in common.items() if name in table.methods}) > 1
    )
    missing = {
        title(name): [fraction for fraction in sorted(fractions) if name not in complete[fraction]] for name in methods
    }
    titles = {name: title(name) for name in methods}
    return DataSizeVerdict(
        block=fractions[max(fractions)].block,
        level=level,
        curves=curves,
        crossovers=crossovers,
        sentences=(f"Too small to tell: {groups} test documents; no difference is reported at any amount of data.",)
        if too_few
        else (
            *missing_runs(missing),
            *single_seeds(common),
            *size_cautions(own_sizes),
            *cautions,
            *describe_sizes(crossovers, curves, titles, margin, complete=not any(missing.values())),
        ),
        notes=tuple(fraction_notes(tables)),
    )


def _complete_methods(scores: Scores) -> tuple[str, ...]:
    """The two or more methods that share the largest number of runs.

    A method with unfinished runs is left out if it would exclude seeds of all the others.
    """
    runs = {
        method: {seed for (name, seed), row in scores.scores.items() if name == method and has_scores(row)}
        for method in scores.methods
    }
    fixed = {name for name in scores.methods if runs[name] and name in scores.deterministic}
    found, most = (tuple(name for name in scores.methods if name in fixed), 0) if len(fixed) > 1 else ((), 0)
    for least in sorted({len(runs[name]) for name in scores.methods if name not in fixed} - {0}):
        some = [name for name in scores.methods if name in fixed or len(runs[name]) >= least]
        shared = set.intersection(*(runs[name] for name in some if name not in fixed))
        if len(some) > 1 and len(some) * len(shared) > most:
            found, most = tuple(some), len(some) * len(shared)
    return found


def _with_documents(table: ScoreTable, documents: list[str]) -> ScoreTable:
    """The table reduced to `documents`, with groups numbered again from 0."""
    columns = [table.documents.index(name) for name in documents]
    _, groups = np.unique(table.group_of[columns], return_inverse=True)
    return ScoreTable(
        table.methods,
        table.seeds,
        tuple(documents),
        table.values[:, :, columns],
        table.varies,
        groups.astype(np.intp),
        table.notes,
    )


def find_crossovers(
    tables: Mapping[float, ScoreTable],
    sizes: Mapping[float, int],
    level: float,
    limit: float = math.inf,
    margin: float = MARGIN,
) -> tuple[Crossover, ...]:
    """One `Crossover` for every pair of methods that at least two fractions have.

    `tables` is in ascending order of fractions; `sizes` gives the number of training examples of each fraction.
    `limit` is the largest possible difference; `margin` is a difference that does not matter in practice, points.
    """
    level = 1.0 - (1.0 - level) / len(tables)
    bands: dict[tuple[str, str], list[BandPoint]] = {}
    for fraction, table in tables.items():
        others = [other for other in tables.values() if other is not table]
        means = estimate_means(group_contributions(table.values, table.group_of), table.varies)
        found = study_differences(means, training_means(table, others)).differences
        widths = simultaneous_half_widths(found, level)
        better, not_worse = (one_sided_p_values(found, least) for least in (0.0, -margin))
        not_better = 1.0 - one_sided_p_values(found, margin)
        for index, (first, second) in enumerate(zip(found.first.tolist(), found.second.tolist(), strict=True)):
            estimate, width = float(found.estimate[index]), float(widths[index])
            point = BandPoint(
                fraction=fraction,
                examples=sizes[fraction],
                difference=estimate,
                low=max(estimate - width, -limit),
                high=min(estimate + width, limit),
                covers_seeds=len(table.seeds) > 1 or not (table.varies[first] or table.varies[second]),
                p_better=float(better[index]),
                p_not_worse=float(not_worse[index]),
                p_not_better=float(not_better[index]),
            )
            bands.setdefault((table.methods[first], table.methods[second]), []).append(point)
    return tuple(_crossover(pair, band) for pair, band in bands.items() if len(band) > 1)


def _crossover(pair: tuple[str, str], band: list[BandPoint]) -> Crossover:
    """`band` is in ascending order of sizes."""
    signs = [1 if point.low > 0 else -1 if point.high < 0 else 0 for point in band]
    significant = [(index, sign) for index, sign in enumerate(signs) if sign]
    changes = [(before, after) for before, after in itertools.pairwise(significant) if before[1] != after[1]]
    better = {1: pair[0], -1: pair[1]}
    outcome: CrossoverOutcome = "undetermined"
    small = large = low = high = None
    if len(changes) > 1:
        outcome, small, large = "changes more than once", better[significant[0][1]], better[significant[-1][1]]
    elif len(changes) == 1:
        (left, sign), (right, other) = changes[0]
        outcome, small, large = "located", better[sign], better[other]
        low, high = band[left].examples, band[right].examples
    elif significant and not changes and len(significant) == len(band):
        outcome, small, large = "throughout", better[signs[0]], better[signs[0]]
    return Crossover(
        first=pair[0],
        second=pair[1],
        outcome=outcome,
        small=small,
        large=large,
        low=low,
        high=high,
        estimate=_crossing_of_means(band),
        band=tuple(band),
    )


def _crossing_of_means(band: list[BandPoint]) -> int | None:
    """The largest size at which the means change their order, interpolated linearly in the logarithm of the size."""
    for left, right in reversed(list(itertools.pairwise(band))):
        if left.difference * right.difference < 0 and left.examples != right.examples:
            weight = left.difference / (left.difference - right.difference)
            log = np.log(left.examples) + weight * (np.log(right.examples) - np.log(left.examples))
            return round(float(np.exp(log)))
    return None


def _largest_difference(fractions: Mapping[float, Scores]) -> float:
    metric = next(iter(fractions.values())).metric
    scale = METRICS[metric].scale if metric in METRICS else None
    return math.inf if scale is None else scale


def _means_only(name: str, title: str, tables: Mapping[float, ScoreTable], sizes: Mapping[float, int]) -> SizeCurve:
    """The curve without a fit."""
    points = tuple(
        SizePoint(
            fraction=fraction,
            examples=sizes[fraction],
            mean=float(table.values[table.methods.index(name)].mean()),
        )
        for fraction, table in tables.items()
    )
    return SizeCurve(method=name, title=title, points=points)


def _learning_curve(
    name: str, title: str, tables: Mapping[float, ScoreTable], sizes: Mapping[float, int], margin: float
) -> SizeCurve:
    plain = _means_only(name, title, tables, sizes)
    means = np.array([point.mean for point in plain.points])
    examples = np.array([sizes[fraction] for fraction in tables], dtype=float)
    if len(set(examples.tolist())) < max(3, len(examples)) or np.ptp(means) < _ROUNDING:
        return plain
    largest = float(examples.max())
    fitted = fit_power_laws(examples, means[None])
    resampled = fit_power_laws(examples, resampled_means(_seeds_by_groups(tables, name), _RESAMPLES, _SEED))
    low, high = np.quantile(gain_of_doubling(resampled, largest), [0.025, 0.975])
    found = {
        "gain_of_doubling": float(gain_of_doubling(fitted, largest)[0]),
        "gain_low": float(low),
        "gain_high": float(high),
        "pays_until": size_where_doubling_stops_paying(fitted, margin, largest)[0],
    }
    return plain.model_copy(update=found)


def _seeds_by_groups(tables: Mapping[float, ScoreTable], name: str) -> Floats:
    """(F, S, G) group contributions of one method at F fractions, over the first S seeds that all of them have."""
    seeds = min(len(table.seeds) for table in tables.values())
    scores = [table.values[table.methods.index(name)][None] for table in tables.values()]
    grouped = [
        group_contributions(row, table.group_of)[0, :seeds] for row, table in zip(scores, tables.values(), strict=True)
    ]
    return np.stack(grouped)
