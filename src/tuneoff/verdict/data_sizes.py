"""How the comparison changes with the amount of data: bands, crossovers, and what more data would bring.

Bands: at each of F shares the intervals of all pairs hold at once with probability 1 - 5 %/F (the one procedure of
`simultaneous`), so all intervals of all shares hold at once with at least 95 % (Bonferroni). The shares of one seed are
nested and judged on the same documents, so they are dependent; Bonferroni's bound asks for no independence.

Crossover of a pair, read off its band: while both signs are shown, the smaller share first and with one change, the
crossing lies between the last share of the one sign and the first of the other; this set is right whenever the band is,
if the difference changes its sign once. One sign at every share: that method is better throughout the shares that were
looked at. Anything else is undetermined.

Learning curve: a - b n^-c (Viering, Loog 2023, The Shape of Learning Curves, power law), fitted to a method's means by
least squares; intervals from drawing document groups and seeds anew, the same for all shares, so whole curves are
drawn. A percentile interval over few seeds is too narrow: what it says is marked exploratory.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tuneoff.results.summary import BandPoint, Crossover, CrossoverOutcome, DataSizeVerdict, SizeCurve, SizePoint
from tuneoff.spec.study import MARGIN
from tuneoff.stats.multiple_comparisons import LEVEL, half_widths
from tuneoff.stats.variance_components import Floats, differences, group_table, moments
from tuneoff.text import join_words
from tuneoff.verdict.scores import Scores, Table, any_number, tabulate

_DRAWS = 400
_SEED = 20261124
_EXPONENTS = np.linspace(0.05, 2.0, 40)
# A curve through a few shares says nothing about amounts so many times as large as what was tried.
_SIGHT = 100
_SAME = 1e-9  # points: sums over more or fewer seeds round differently


def judge_sizes(
    shares: Mapping[float, Scores], examples: int, margin: float = MARGIN, level: float = LEVEL
) -> DataSizeVerdict | None:
    """Judge one base model at several shares of `examples` training examples. None with fewer than two shares, two
    methods or two document groups that all shares have.

    Where runs are missing, each share is judged over the methods that are ready there, each pair of methods over the
    shares where both are; what waits is named.
    """
    named = list(dict.fromkeys(name for fraction in sorted(shares) for name in shares[fraction].methods))
    ready = {fraction: _ready(shares[fraction]) for fraction in sorted(shares)}
    tables = {share: tabulate(replace(shares[share], methods=names)) for share, names in ready.items() if names}
    if len(tables) < 2:
        return None
    documents = sorted(set.intersection(*(set(table.documents) for table in tables.values())))
    if len(documents) < 2:
        return None
    kept = {share: _narrowed(table, documents) for share, table in tables.items()}
    if any(len(np.unique(table.group_of)) < 2 for table in kept.values()):
        return None
    title = shares[max(shares)].title
    counts = {fraction: max(1, round(fraction * examples)) for fraction in shares}
    crossovers = crossovers_of(kept, counts, level)
    curves = tuple(
        _curve(name, title(name), own, counts, margin)
        for name in named
        if len(own := {share: table for share, table in kept.items() if name in table.methods}) > 1
    )
    waiting = {title(name): [share for share in sorted(shares) if name not in ready[share]] for name in named}
    return DataSizeVerdict(
        block=shares[max(shares)].block,
        level=level,
        curves=curves,
        crossovers=crossovers,
        sentences=(
            *_limits(kept, waiting),
            *_sentences(
                crossovers, curves, {name: title(name) for name in named}, margin, whole=not any(waiting.values())
            ),
        ),
        notes=tuple(_notes(tables)),
    )


def _ready(scores: Scores) -> tuple[str, ...]:
    """The methods, two at least, that have the most seeds in all: one whose runs are under way would take the seeds
    that it lacks from all others."""
    runs = {
        method: {seed for (name, seed), row in scores.scores.items() if name == method and any_number(row)}
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


def _limits(tables: Mapping[float, Table], waiting: Mapping[str, list[float]]) -> list[str]:
    """What the statements are not about. `waiting`: the shares at which each method has not all its runs."""
    lines = []
    for shares in dict.fromkeys(tuple(found) for found in waiting.values() if found):
        titles = [title for title, found in waiting.items() if tuple(found) == shares]
        lines.append(
            f"Not judged at {_shares(list(shares))} of the data, where runs are missing: {join_words(titles)}."
        )
    alone = [share for share, table in tables.items() if len(table.seeds) == 1 and table.varies.any()]
    if alone:
        lines.append(
            f"Only one training seed at {_shares(alone)} of the data: how much another training would change there is "
            "unknown, so all this holds for these trained models, not for the methods."
        )
    return lines


def _notes(tables: Mapping[float, Table]) -> list[str]:
    """What was left out, with the shares at which it was, unless it was at all of them."""
    told: dict[str, list[float]] = {}
    for share, table in tables.items():
        for note in table.notes:
            told.setdefault(note, []).append(share)
    return [
        note if len(at) == len(tables) else f"At {_shares(at)} of the data: {note[:1].lower()}{note[1:]}"
        for note, at in told.items()
    ]


def _shares(fractions: list[float]) -> str:
    return join_words([f"{100 * share:g} %" for share in fractions])


def _narrowed(table: Table, documents: list[str]) -> Table:
    columns = [table.documents.index(name) for name in documents]
    _, groups = np.unique(table.group_of[columns], return_inverse=True)
    return Table(
        table.methods,
        table.seeds,
        tuple(documents),
        table.values[:, :, columns],
        table.varies,
        groups.astype(np.intp),
        table.notes,
    )


def crossovers_of(tables: Mapping[float, Table], counts: Mapping[float, int], level: float) -> tuple[Crossover, ...]:
    """Every pair of methods over the shares that have both, in ascending order; `counts` are examples at each share."""
    level = 1.0 - (1.0 - level) / len(tables)
    bands: dict[tuple[str, str], list[BandPoint]] = {}
    for fraction, table in tables.items():
        apart = differences(moments(group_table(table.values, table.group_of), table.varies))
        widths = half_widths(apart, level)
        for first, second, estimate, width in zip(apart.first, apart.second, apart.estimate, widths, strict=True):
            point = BandPoint(
                fraction=fraction,
                examples=counts[fraction],
                difference=float(estimate),
                low=float(estimate - width),
                high=float(estimate + width),
                covers_seeds=len(table.seeds) > 1 or not (table.varies[first] or table.varies[second]),
            )
            bands.setdefault((table.methods[first], table.methods[second]), []).append(point)
    return tuple(_crossover(pair, band) for pair, band in bands.items() if len(band) > 1)


def _crossover(pair: tuple[str, str], band: list[BandPoint]) -> Crossover:
    """`band` in the order of the shares."""
    signs = [1 if point.low > 0 else -1 if point.high < 0 else 0 for point in band]
    shown = [(place, sign) for place, sign in enumerate(signs) if sign]
    changes = [(before, after) for before, after in itertools.pairwise(shown) if before[1] != after[1]]
    better = {1: pair[0], -1: pair[1]}
    outcome: CrossoverOutcome = "undetermined"
    small = large = low = high = None
    if len(changes) == 1:
        (left, sign), (right, other) = changes[0]
        outcome, small, large = "located", better[sign], better[other]
        low, high = band[left].examples, band[right].examples
    elif shown and not changes and len(shown) == len(band):
        outcome, small, large = "throughout", better[signs[0]], better[signs[0]]
    return Crossover(
        first=pair[0],
        second=pair[1],
        outcome=outcome,
        small=small,
        large=large,
        low=low,
        high=high,
        estimate=_estimate(band),
        band=tuple(band),
    )


def _estimate(band: list[BandPoint]) -> int | None:
    """The last place where the means change order, on lines over the logarithm of the amount."""
    for left, right in reversed(list(itertools.pairwise(band))):
        if left.difference * right.difference < 0:
            share = left.difference / (left.difference - right.difference)
            log = np.log(left.examples) + share * (np.log(right.examples) - np.log(left.examples))
            return round(float(np.exp(log)))
    return None


def _curve(
    name: str, title: str, tables: Mapping[float, Table], counts: Mapping[float, int], margin: float
) -> SizeCurve:
    own = {share: table.values[table.methods.index(name)] for share, table in tables.items()}  # (S, N) each
    means = np.array([values.mean() for values in own.values()])
    points = tuple(
        SizePoint(fraction=fraction, examples=counts[fraction], mean=float(mean))
        for fraction, mean in zip(tables, means, strict=True)
    )
    sizes = np.array([counts[fraction] for fraction in tables], dtype=float)
    if len(sizes) < 3 or np.ptp(means) < _SAME:
        return SizeCurve(method=name, title=title, points=points)
    drawn = _drawn_means(tables, name)
    fitted = _fit(sizes, means[None])
    low, high = np.quantile(_gain(_fit(sizes, drawn), sizes[-1]), [0.025, 0.975])
    return SizeCurve(
        method=name,
        title=title,
        points=points,
        gain_of_doubling=float(_gain(fitted, sizes[-1])[0]),
        gain_low=float(low),
        gain_high=float(high),
        pays_until=_pays_until(fitted[0], margin, sizes[-1]),
    )


def _drawn_means(tables: Mapping[float, Table], name: str) -> Floats:
    """(draws, F) means of one method when groups and seeds are drawn anew, the same draw at every share."""
    rng = np.random.default_rng(_SEED)
    first = next(iter(tables.values()))
    n_groups = int(first.group_of.max()) + 1
    seeds = min(len(table.seeds) for table in tables.values())
    rows = [table.values[table.methods.index(name)][None] for table in tables.values()]
    grouped = [group_table(row, table.group_of)[0, :seeds] for row, table in zip(rows, tables.values(), strict=True)]
    stacked = np.stack(grouped)  # (F, S, G)
    means = np.empty((_DRAWS, len(grouped)))
    for place in range(_DRAWS):
        chosen = stacked[:, rng.integers(seeds, size=seeds)][:, :, rng.integers(n_groups, size=n_groups)]
        means[place] = chosen.mean(axis=(1, 2))
    return means


def _fit(sizes: Floats, means: Floats) -> Floats:
    """(D, 3) a, b, c of a - b n^-c with b >= 0 for each row of `means` (D, F): of the lines over n^-c for each exponent
    of a grid, and the constant, the one with the smallest error."""
    centred = means - means.mean(axis=1, keepdims=True)
    best = np.stack([means.mean(axis=1), np.zeros(len(means)), np.ones(len(means))], axis=1)
    smallest = (centred**2).sum(axis=1)
    for exponent in _EXPONENTS:
        falls = sizes**-exponent
        apart = falls - falls.mean()
        slope = centred @ apart / (apart @ apart)
        error = ((centred - slope[:, None] * apart) ** 2).sum(axis=1)
        better = (slope <= 0) & (error < smallest)
        level = means.mean(axis=1) - slope * falls.mean()
        found = np.stack([level, -slope, np.full(len(means), exponent)], axis=1)
        best = np.where(better[:, None], found, best)
        smallest = np.where(better, error, smallest)
    return best


def _gain(fitted: Floats, size: float) -> Floats:
    """(D,) points between `size` and twice as many examples."""
    gain: Floats = fitted[:, 1] * size ** -fitted[:, 2] * (1.0 - 2.0 ** -fitted[:, 2])
    return gain


def _pays_until(fitted: Floats, margin: float, tried: float) -> int | None:
    """The amount from which doubling gains less than the margin; 0 for a curve that does not rise, None for an amount
    too far beyond what was tried."""
    _, scale, exponent = fitted
    if margin <= 0:
        return None
    if scale <= 0:
        return 0
    amount = (scale * (1.0 - 2.0**-exponent) / margin) ** (1.0 / exponent)
    return round(amount) if amount <= _SIGHT * tried else None


def _highest(curves: tuple[SizeCurve, ...], tried: str) -> str:
    """Which means are highest, without a claim that they are so in truth."""
    means = {(point.examples, point.mean, curve.title) for curve in curves for point in curve.points}
    amounts: dict[str, list[str]] = {}
    for examples in sorted({examples for examples, _, _ in means}):
        _, title = max((mean, title) for at, mean, title in means if at == examples)
        amounts.setdefault(title, []).append(f"{examples}")
    if len(amounts) == 1:
        return f"{next(iter(amounts))} has the highest mean at every amount of data that was {tried}."
    where = [f"{title} at {join_words(at)}" for title, at in amounts.items()]
    return f"The highest mean is that of {join_words(where)} examples."


def _sentences(
    crossovers: tuple[Crossover, ...],
    curves: tuple[SizeCurve, ...],
    titles: Mapping[str, str],
    margin: float,
    *,
    whole: bool,
) -> list[str]:
    """`whole`: no run is missing at any share."""
    amounts = "tried" if whole else "judged"
    lines = [_highest(curves, amounts)] if curves else []
    if not any(pair.outcome == "located" for pair in crossovers):
        lines.append("It is not shown that the amount of data changes which of two methods is better.")
    for pair in crossovers:
        if pair.outcome == "located":
            assert pair.small is not None
            assert pair.large is not None
            lines.append(
                f"{titles[pair.small]} is better than {titles[pair.large]} on little data, "
                f"{titles[pair.large]} on much: the change lies between {pair.low} and {pair.high} examples."
            )
    throughout: dict[str, list[str]] = {}
    open_pairs = []
    for pair in crossovers:
        if pair.outcome == "throughout":
            worse = pair.second if pair.small == pair.first else pair.first
            throughout.setdefault(str(pair.small), []).append(titles[worse])
        elif pair.outcome == "undetermined":
            open_pairs.append(f"{titles[pair.first]} and {titles[pair.second]}")
    for name, others in throughout.items():
        lines.append(f"{titles[name]} is better than {', '.join(others)} at every amount of data that was {amounts}.")
    if open_pairs:
        lines.append(f"Whether the better one changes with the amount is undetermined for {'; '.join(open_pairs)}.")
    for curve in curves:
        if curve.gain_of_doubling is not None:
            said = (
                f"Twice the data would bring {curve.title} about {curve.gain_of_doubling:.1f} points "
                f"({curve.gain_low:.1f} to {curve.gain_high:.1f}, exploratory)"
            )
            if curve.pays_until is not None:
                tried = curve.pays_until <= curve.points[0].examples
                where = "at every amount that was tried" if tried else f"from {curve.pays_until} examples on"
                said += f"; by the curve, doubling gains less than {margin:g} points {where}"
            lines.append(f"{said}.")
    return lines
