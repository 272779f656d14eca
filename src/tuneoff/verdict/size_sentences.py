"""The comparison of training set sizes in sentences: what it does not cover, then what it shows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from tuneoff.results.summary import BandPoint, Crossover, SizeCurve, SizePoint
from tuneoff.text import join_words
from tuneoff.verdict.scores import ScoreTable
from tuneoff.verdict.training_sizes import TrainingSize

Key = TypeVar("Key")


def missing_runs(missing: Mapping[str, list[float]]) -> list[str]:
    """Where methods are not judged. `missing`: title of a method -> fractions without all its runs."""
    return [
        f"Not judged at {_percentages(fractions)} of the data: runs of {join_words(titles)} are missing."
        for fractions in dict.fromkeys(tuple(found) for found in missing.values() if found)
        if (titles := [title for title, found in missing.items() if tuple(found) == fractions])
    ]


def single_seeds(tables: Mapping[float, ScoreTable]) -> list[str]:
    """The fractions at which intervals are about trained models only."""
    one_seed = [fraction for fraction, table in tables.items() if len(table.seeds) == 1 and table.varies.any()]
    if not one_seed:
        return []
    return [
        f"Only one training seed at {_percentages(one_seed)} of the data: the variance between trainings is "
        "unknown there, so the results hold for these trained models, not for the methods."
    ]


def size_cautions(sizes: Mapping[float, TrainingSize]) -> list[str]:
    """Examples that no training read, and numbers of steps that differ. `sizes` is in ascending order of fractions."""
    lines = []
    partly = {fraction: size for fraction, size in sizes.items() if size.read < size.available}
    if partly:
        shown = [f"{size.read} of {size.available} at {100 * at:g} %" for at, size in partly.items()]
        lines.append(
            f"Training did not read all examples: {join_words(shown)} of the data. Below, the training set size is the "
            "number of examples that were read."
        )
    by_read = _fractions_by(sizes, lambda size: size.read)
    lines += [
        f"At {_percentages(same)} of the data, training read the same number of examples ({read}), so no learning "
        "curve is fitted."
        for read, same in by_read.items()
        if len(same) > 1
    ]
    by_steps = {steps: at for steps, at in _fractions_by(sizes, lambda size: size.steps).items() if steps is not None}
    if len(by_steps) > 1:
        shown = [f"{steps} at {_percentages(at)}" for steps, at in by_steps.items()]
        lines.append(
            f"The number of training steps differs: {join_words(shown)} of the data. Differences between training set "
            "sizes may come from the steps."
        )
    return lines


def fraction_notes(tables: Mapping[float, ScoreTable]) -> list[str]:
    """Notes of the tables; a note that only some fractions have begins with these fractions."""
    found: dict[str, list[float]] = {}
    for fraction, table in tables.items():
        for note in table.notes:
            found.setdefault(note, []).append(fraction)
    return [
        note if len(at) == len(tables) else f"At {_percentages(at)} of the data: {note[:1].lower()}{note[1:]}"
        for note, at in found.items()
    ]


def _percentages(fractions: Sequence[float]) -> str:
    return join_words([f"{100 * fraction:g} %" for fraction in fractions])


def _fractions_by(sizes: Mapping[float, TrainingSize], value: Callable[[TrainingSize], Key]) -> dict[Key, list[float]]:
    found: dict[Key, list[float]] = {}
    for fraction, size in sizes.items():
        found.setdefault(value(size), []).append(fraction)
    return found


def describe_sizes(
    crossovers: tuple[Crossover, ...],
    curves: tuple[SizeCurve, ...],
    titles: Mapping[str, str],
    margin: float,
    *,
    complete: bool,
) -> list[str]:
    """The result in sentences, for people. `complete`: no run is missing at any fraction."""
    sizes = "every fraction of the data" if _equally_large(curves) else "every training set size"
    if not complete:
        sizes += " with complete runs"
    lines = [_highest_means(curves, sizes)] if curves else []
    located = [pair for pair in crossovers if pair.outcome == "located"]
    several = [pair for pair in crossovers if pair.outcome == "changes more than once"]
    if not located and not several:
        lines.append("No significant change of the better method with the training set size.")
    for pair in located:
        small, large = titles[str(pair.small)], titles[str(pair.large)]
        signs = [(point, point.low > 0) for point in pair.band if point.low > 0 or point.high < 0]
        [(left, right)] = [(one[0], two[0]) for one, two in pairwise(signs) if one[1] != two[1]]
        lines.append(
            f"{small} is better than {large} on small training sets, {large} on large ones: the change lies between "
            f"{_at([left, right], curves)}."
        )
    for pair in several:
        better = {
            titles[name]: [point for point in pair.band if (point.low > 0 if sign > 0 else point.high < 0)]
            for name, sign in ((pair.first, 1), (pair.second, -1))
        }
        where = "; ".join(f"{title} is better at {_at(points, curves)}" for title, points in better.items())
        lines.append(
            f"Which of {titles[pair.first]} and {titles[pair.second]} is better changes more than once with the "
            f"training set size: {where}."
        )
    throughout: dict[str, list[str]] = {}
    undetermined = []
    for pair in crossovers:
        if pair.outcome == "throughout":
            worse = pair.second if pair.small == pair.first else pair.first
            throughout.setdefault(str(pair.small), []).append(titles[worse])
        elif pair.outcome == "undetermined":
            undetermined.append(f"{titles[pair.first]} and {titles[pair.second]}")
    lines += [f"{titles[name]} is better than {join_words(others)} at {sizes}." for name, others in throughout.items()]
    if undetermined:
        lines.append(f"It is undetermined whether the better method changes for {'; '.join(undetermined)}.")
    return lines + [_describe_curve(curve, margin) for curve in curves if curve.gain_of_doubling is not None]


def _highest_means(curves: tuple[SizeCurve, ...], sizes: str) -> str:
    """Which method has the highest mean at each size; no claim that the difference is significant."""
    highest: dict[str, list[SizePoint]] = {}
    for fraction in sorted({point.fraction for curve in curves for point in curve.points}):
        means = [(point.mean, curve.title, point) for curve in curves for point in curve.points]
        _, title, found = max(((mean, title, at) for mean, title, at in means if at.fraction == fraction), key=_by_mean)
        highest.setdefault(title, []).append(found)
    if len(highest) == 1:
        return f"{next(iter(highest))} has the highest mean at {sizes}."
    return f"Highest mean: {'; '.join(f'{title} at {_at(points, curves)}' for title, points in highest.items())}."


def _equally_large(curves: Iterable[SizeCurve]) -> bool:
    """Whether training read the same number of examples at two fractions of the data."""
    size_of = {point.fraction: point.examples for curve in curves for point in curve.points}
    return len(set(size_of.values())) < len(size_of)


def _by_mean(found: tuple[float, str, SizePoint]) -> tuple[float, str]:
    return found[0], found[1]


def _at(points: Sequence[SizePoint | BandPoint], curves: Iterable[SizeCurve]) -> str:
    """Training set sizes as numbers of examples; as fractions of the data if two of the study are equally large."""
    if _equally_large(curves):
        return f"{_percentages([point.fraction for point in points])} of the data"
    return f"{join_words([str(point.examples) for point in points])} examples"


def _describe_curve(curve: SizeCurve, margin: float) -> str:
    sentence = (
        f"Twice as many examples would add about {curve.gain_of_doubling:.1f} points for {curve.title} "
        f"({curve.gain_low:.1f} to {curve.gain_high:.1f}, exploratory)"
    )
    if curve.pays_until is None:
        return f"{sentence}."
    everywhere = curve.pays_until <= curve.points[0].examples
    where = "at every training set size" if everywhere else f"from {curve.pays_until} examples on"
    return f"{sentence}; by the fitted curve, doubling adds less than {margin:g} points {where}."
