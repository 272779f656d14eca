"""The verdict in sentences for people. Numbers of ROUGE points are rounded to one decimal, bounds outwards."""

import math

from tuneoff.metrics.registry import METRICS
from tuneoff.results.verdict import MethodResult, PairResult, Recommendation, Verdict


def sentences(verdict: Verdict) -> tuple[str, ...]:
    """The verdict from the most to the least important sentence."""
    titles = {result.method: result.title for result in verdict.methods}
    lines = [_best(verdict, titles), *left_out(verdict)]
    lines += [*_recommendations(verdict, titles), *_limits(verdict), _basis(verdict)]
    ranked = sorted(verdict.methods, key=lambda result: -result.mean)
    rank = {result.method: place for place, result in enumerate(ranked)}
    ordered = sorted(verdict.pairs, key=lambda pair: sorted((rank[pair.first], rank[pair.second])))
    lines += [_pair(pair, titles, verdict.margin) for pair in ordered]
    if len(verdict.best_set) > 1:
        lines += [_against_best(result, verdict.margin) for result in ranked if result.may_be_best or result.not_worse]
    return (*lines, *verdict.notes)


def left_out(verdict: Verdict) -> list[str]:
    """Which methods the verdict says nothing about."""
    if not verdict.left_out:
        return []
    has = "has" if len(verdict.left_out) == 1 else "have"
    return [f"Not judged: {listed(list(verdict.left_out))} {has} no finished, scored run."]


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _out(value: float) -> str:
    """A bound with one decimal, rounded away from zero: a bound must not get sharper by rounding."""
    return f"{math.copysign(math.ceil(abs(value) * 10 - 1e-9) / 10, value):.1f}"


def _interval(low: float, high: float) -> str:
    def sign(value: float, up: bool) -> str:
        rounded = (math.ceil(value * 10 - 1e-9) if up else math.floor(value * 10 + 1e-9)) / 10
        return f"{rounded + 0.0:+.1f}".replace("-", "−")

    return f"{sign(low, False)} to {sign(high, True)}"


def _basis(verdict: Verdict) -> str:
    where = f" with {verdict.block}" if verdict.block else ""
    documents = f"{verdict.documents} test documents"
    if verdict.groups != verdict.documents:
        documents = f"{verdict.documents} test examples of {verdict.groups} documents"
    runs = "" if not verdict.seeds else f", {len(verdict.seeds)} training seed{'s' if len(verdict.seeds) > 1 else ''}"
    metric = METRICS[verdict.metric].title if verdict.metric in METRICS else verdict.metric
    methods = f"{len(verdict.methods)} methods"
    return (
        f"Judged by {metric}{where}: {methods} on the same {documents}{runs}; "
        f"the intervals hold for all pairs at once with {100 * verdict.level:g} % confidence."
    )


def _best(verdict: Verdict, titles: dict[str, str]) -> str:
    top = next(result for result in verdict.methods if result.method == verdict.best)
    if len(verdict.best_set) == 1:
        # Of a study under way nobody shall read that the method is the best of all that it compares.
        these = f"the {len(verdict.methods)} methods that have runs" if verdict.left_out else "these methods"
        return f"{top.title} is the best of {these}: {top.mean:.1f} points, and every other is shown to be worse."
    others = [titles[name] for name in verdict.best_set if name != verdict.best]
    if all(
        pair.decision == "tie"
        for pair in verdict.pairs
        if pair.first in verdict.best_set and pair.second in verdict.best_set
    ):
        rest = ", and every other is shown to be worse" if len(verdict.best_set) < len(verdict.methods) else ""
        return (
            f"It is a tie: {listed([top.title, *others])} lie within {verdict.margin:g} points of each other "
            f"({top.mean:.1f} points){rest}."
        )
    return (
        f"There is no single winner: {top.title} has the highest mean ({top.mean:.1f} points), but {listed(others)} "
        "may be the best too."
    )


def _pair(pair: PairResult, titles: dict[str, str], margin: float) -> str:
    first, second, difference, low, high = pair.first, pair.second, pair.difference, pair.low, pair.high
    if difference < 0:
        first, second, difference, low, high = second, first, -difference, -high, -low
    one, other = titles[first], titles[second]
    numbers = f"{difference:+.1f} points, {_interval(low, high)}"
    if pair.decision == "tie":
        if low == high == 0:
            return f"{one} and {other} are a tie: they score the same on every document."
        return f"{one} and {other} are a tie: any difference is within {margin:g} points ({numbers})."
    if pair.decision == "no difference shown":
        return (
            f"{one} and {other}: no difference shown ({numbers}); up to {_out(max(-low, high))} points may be hidden."
        )
    tail = {
        "matters": f"more than the {margin:g} points that matter",
        "too small to matter": f"but less than the {margin:g} points that matter",
        "not settled": f"whether by the {margin:g} points that matter is not settled",
    }[pair.size]
    return f"{one} is better than {other} ({numbers}), {tail}."


def _against_best(result: MethodResult, margin: float) -> str:
    if result.not_worse:
        return f"{result.title} is not worse than the best by more than {margin:g} points."
    return f"{result.title} against the best: not settled; it may lose up to {_out(result.may_lose)} points."


def _recommendations(verdict: Verdict, titles: dict[str, str]) -> list[str]:
    chosen: dict[tuple[str, ...], list[Recommendation]] = {}
    none: dict[str, list[str]] = {}
    missing: dict[tuple[str, ...], list[str]] = {}
    for entry in verdict.recommendations:
        if entry.method is None:
            none.setdefault(entry.reason or "not measured", []).append(entry.title)
            continue
        chosen.setdefault((entry.method, *entry.equally_cheap), []).append(entry)
        if entry.without_cost:
            missing.setdefault(entry.without_cost, []).append(entry.title)
    lines = []
    for names, entries in chosen.items():
        axes = listed([entry.title for entry in entries])
        who = listed([titles[name] for name in names])
        if entries[0].settled:
            lines.append(f"Cheapest in {axes} of all not worse than the best by {verdict.margin:g} points: {who}.")
        else:
            bound = _out(max(result.may_lose for result in verdict.methods if result.method in names))
            lines.append(
                f"Cheapest in {axes} of all that may be the best: {who} (not settled: may lose {bound} points)."
            )
    lines += [
        f"Not considered for {listed(axes)}, without a figure: {listed(list(who))}." for who, axes in missing.items()
    ]
    return lines + [f"No recommendation for {listed(axes)}: {reason}." for reason, axes in none.items()]


def _limits(verdict: Verdict) -> list[str]:
    lines = []
    measured = any(pair.standard_error > 0 for pair in verdict.pairs)  # else all are alike
    if measured and verdict.smallest_detectable is not None and verdict.smallest_margin is not None:
        lines.append(
            f"This study tells any two methods apart (with 80 % probability) when they differ by "
            f"{_out(verdict.smallest_detectable)} points or more, and the smallest margin that it can settle for "
            f"all of them is {_out(verdict.smallest_margin)} points."
        )
    if not verdict.covers_seeds:
        lines.append(
            "Only one training seed: how much another training would change is unknown, so all this holds for these "
            "trained models, not for the methods; run at least 3 seeds."
        )
    return lines
