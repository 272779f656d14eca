"""How the comparison changes with the training set size: intervals, crossovers and learning curves.

Intervals: a study trains on F fractions of the data. At each fraction the simultaneous intervals of all pairs
(`tuneoff.stats.multiple_comparisons`) have level 1 - 5 %/F, so all intervals of all fractions hold at once with at
least 95 % (Bonferroni). The training sets of one seed are nested and the test documents are the same, so the fractions
are dependent; Bonferroni needs no independence.

Crossovers: one method of a pair may be better on small and the other on large training sets. If each is significantly
better somewhere, and the sign changes once, the crossover lies between the last size of the one sign and the first of
the other. This is right whenever the intervals are, provided that the true difference changes its sign at most once.
With the same sign at every fraction one method is better throughout. Anything else is undetermined.

Learning curves: a power law fitted to the means of each method (`tuneoff.stats.learning_curves`). Its intervals
resample document groups and seeds, the same ones for all fractions. A percentile interval over few seeds is too narrow,
so these numbers are marked as exploratory.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tuneoff.metrics.registry import METRICS
from tuneoff.results.summary import BandPoint, Crossover, CrossoverOutcome, DataSizeVerdict, SizeCurve, SizePoint
from tuneoff.spec.study import MARGIN
from tuneoff.stats.bootstrap import resampled_means
from tuneoff.stats.learning_curves import fit_power_laws, gain_of_doubling, size_where_doubling_stops_paying
from tuneoff.stats.multiple_comparisons import LEVEL, simultaneous_half_widths
from tuneoff.stats.power import FEWEST_GROUPS
from tuneoff.stats.variance_components import Floats, estimate_means, group_contributions, pairwise_differences
from tuneoff.text import join_words
from tuneoff.verdict.scores import Scores, ScoreTable, has_scores, tabulate

_RESAMPLES = 400
_SEED = 20261124
# Means that differ by less, in points, are equal: sums over more or fewer seeds round differently.
_ROUNDING = 1e-9


def judge_sizes(
    fractions: Mapping[float, Scores], examples: int, margin: float = MARGIN, level: float = LEVEL
) -> DataSizeVerdict | None:
    """Compare the methods of one base model at several fractions of `examples` training examples.

    A fraction is judged for the methods whose runs are complete there, and a pair of methods at the fractions where
    both are. What is missing is named in the sentences.

    Args:
        fractions: fraction of the data -> scores of the runs trained on it.
        examples: number of training examples at fraction 1.
        margin: difference that does not matter in practice, points.
        level: level of all intervals together.

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
    sizes = {fraction: max(1, round(fraction * examples)) for fraction in fractions}
    too_few = groups < FEWEST_GROUPS
    crossovers = () if too_few else find_crossovers(common, sizes, level, _largest_difference(fractions))
    curves = tuple(
        _means_only(name, title(name), own, sizes)
        if too_few
        else _learning_curve(name, title(name), own, sizes, margin)
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
            *_caveats(common, missing),
            *_describe(crossovers, curves, titles, margin, complete=not any(missing.values())),
        ),
        notes=tuple(_notes(tables)),
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
    tables: Mapping[float, ScoreTable], sizes: Mapping[float, int], level: float, limit: float = math.inf
) -> tuple[Crossover, ...]:
    """One `Crossover` for every pair of methods that at least two fractions have.

    `tables` is in ascending order of fractions; `sizes` gives the number of training examples of each fraction.
    `limit` is the largest possible difference.
    """
    level = 1.0 - (1.0 - level) / len(tables)
    bands: dict[tuple[str, str], list[BandPoint]] = {}
    for fraction, table in tables.items():
        found = pairwise_differences(estimate_means(group_contributions(table.values, table.group_of), table.varies))
        widths = simultaneous_half_widths(found, level)
        for first, second, estimate, width in zip(found.first, found.second, found.estimate, widths, strict=True):
            point = BandPoint(
                fraction=fraction,
                examples=sizes[fraction],
                difference=float(estimate),
                low=max(float(estimate - width), -limit),
                high=min(float(estimate + width), limit),
                covers_seeds=len(table.seeds) > 1 or not (table.varies[first] or table.varies[second]),
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
    if len(changes) == 1:
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
        if left.difference * right.difference < 0:
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
    if len(examples) < 3 or np.ptp(means) < _ROUNDING:
        return plain
    largest = examples[-1]
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


def _caveats(tables: Mapping[float, ScoreTable], missing: Mapping[str, list[float]]) -> list[str]:
    """What the comparison does not cover. `missing`: title of a method -> fractions without all its runs."""
    lines = []
    for fractions in dict.fromkeys(tuple(found) for found in missing.values() if found):
        titles = [title for title, found in missing.items() if tuple(found) == fractions]
        lines.append(
            f"Not judged at {_percentages(list(fractions))} of the data: runs of {join_words(titles)} are missing."
        )
    one_seed = [fraction for fraction, table in tables.items() if len(table.seeds) == 1 and table.varies.any()]
    if one_seed:
        lines.append(
            f"Only one training seed at {_percentages(one_seed)} of the data: the variance between trainings is "
            "unknown there, so the results hold for these trained models, not for the methods."
        )
    return lines


def _notes(tables: Mapping[float, ScoreTable]) -> list[str]:
    """Notes of the tables; a note that only some fractions have begins with these fractions."""
    found: dict[str, list[float]] = {}
    for fraction, table in tables.items():
        for note in table.notes:
            found.setdefault(note, []).append(fraction)
    return [
        note if len(at) == len(tables) else f"At {_percentages(at)} of the data: {note[:1].lower()}{note[1:]}"
        for note, at in found.items()
    ]


def _percentages(fractions: list[float]) -> str:
    return join_words([f"{100 * fraction:g} %" for fraction in fractions])


def _describe(
    crossovers: tuple[Crossover, ...],
    curves: tuple[SizeCurve, ...],
    titles: Mapping[str, str],
    margin: float,
    *,
    complete: bool,
) -> list[str]:
    """The result in sentences, for people. `complete`: no run is missing at any fraction."""
    sizes = "every training set size" if complete else "every training set size with complete runs"
    lines = [_highest_means(curves, sizes)] if curves else []
    located = [pair for pair in crossovers if pair.outcome == "located"]
    if not located:
        lines.append("No significant change of the better method with the training set size.")
    for pair in located:
        small, large = titles[str(pair.small)], titles[str(pair.large)]
        lines.append(
            f"{small} is better than {large} on small training sets, {large} on large ones: the change lies between "
            f"{pair.low} and {pair.high} examples."
        )
    better: dict[str, list[str]] = {}
    undetermined = []
    for pair in crossovers:
        if pair.outcome == "throughout":
            worse = pair.second if pair.small == pair.first else pair.first
            better.setdefault(str(pair.small), []).append(titles[worse])
        elif pair.outcome == "undetermined":
            undetermined.append(f"{titles[pair.first]} and {titles[pair.second]}")
    lines += [f"{titles[name]} is better than {join_words(others)} at {sizes}." for name, others in better.items()]
    if undetermined:
        lines.append(f"It is undetermined whether the better method changes for {'; '.join(undetermined)}.")
    return lines + [_describe_curve(curve, margin) for curve in curves if curve.gain_of_doubling is not None]


def _highest_means(curves: tuple[SizeCurve, ...], sizes: str) -> str:
    """Which method has the highest mean at each size; no claim that the difference is significant."""
    means = {(point.examples, point.mean, curve.title) for curve in curves for point in curve.points}
    examples_of: dict[str, list[str]] = {}
    for examples in sorted({examples for examples, _, _ in means}):
        _, title = max((mean, title) for at, mean, title in means if at == examples)
        examples_of.setdefault(title, []).append(f"{examples}")
    if len(examples_of) == 1:
        return f"{next(iter(examples_of))} has the highest mean at {sizes}."
    return f"Highest mean: {'; '.join(f'{title} at {join_words(at)} examples' for title, at in examples_of.items())}."


def _describe_curve(curve: SizeCurve, margin: float) -> str:
    sentence = (
        f"Doubling the data would add about {curve.gain_of_doubling:.1f} points for {curve.title} "
        f"({curve.gain_low:.1f} to {curve.gain_high:.1f}, exploratory)"
    )
    if curve.pays_until is None:
        return f"{sentence}."
    everywhere = curve.pays_until <= curve.points[0].examples
    where = "at every training set size" if everywhere else f"from {curve.pays_until} examples on"
    return f"{sentence}; by the fitted curve, doubling adds less than {margin:g} points {where}."
