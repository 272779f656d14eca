"""From scores to the verdict. Pure: the same scores give the same verdict, and nothing is read or written."""

import math

import numpy as np

from tuneoff.results.costs import COST_AXES, Cost, CostAxis
from tuneoff.results.summary import Decision, MethodResult, PairResult, Recommendation, Relevance, Verdict
from tuneoff.spec.study import MARGIN
from tuneoff.stats.multiple_comparisons import LEVEL, half_widths, losses
from tuneoff.stats.power import Sensitivity, sensitivity
from tuneoff.stats.variance_components import Differences, Floats, Moments, differences, group_table, moments
from tuneoff.verdict.scores import Scores, Table, tabulate
from tuneoff.verdict.sentences import left_out, sentences


def decide(scores: Scores, margin: float = MARGIN, level: float = LEVEL) -> Verdict:
    """Judge one family of methods on one metric.

    Two statements are made, each right with probability `level` for the whole family: the intervals of all pairs, from
    which who is better and who may be best are read, and the bounds on what each method may lose against the best.
    `margin` is in points. Raises `ValueError` for a margin below zero or a level outside (0, 1).
    """
    if not 0 <= margin < math.inf or not 0 < level < 1:
        raise ValueError(f"margin {margin} must be at least 0, level {level} between 0 and 1")
    table = tabulate(scores)
    n_groups = int(table.group_of.max()) + 1 if len(table.documents) else 0
    if len(table.methods) < 2 or n_groups < 2:
        return _nothing_to_compare(scores, table, n_groups, margin, level)
    found = moments(group_table(table.values, table.group_of), table.varies)
    apart = differences(found)
    sees = sensitivity(apart, level)
    pairs = _pairs(table, apart, half_widths(apart, level), sees, margin)
    methods = _methods(scores, table, found, losses(apart, found.mean, level), pairs, margin)
    best = table.methods[int(np.argmax(found.mean))]
    best_set = tuple(result.method for result in methods if result.may_be_best)
    verdict = Verdict(
        metric=scores.metric,
        level=level,
        margin=margin,
        block=scores.block,
        methods=methods,
        left_out=table.left_out,
        pairs=pairs,
        best=best,
        best_set=best_set,
        recommendations=_recommendations(scores, methods),
        smallest_detectable=sees.smallest_difference,
        smallest_margin=sees.smallest_margin,
        seeds=table.seeds if table.varies.any() else (),
        documents=len(table.documents),
        groups=n_groups,
        covers_seeds=len(table.seeds) > 1 or not table.varies.any(),
        sentences=(),
        notes=table.notes,
    )
    return verdict.model_copy(update={"sentences": sentences(verdict)})


def _nothing_to_compare(scores: Scores, table: Table, n_groups: int, margin: float, level: float) -> Verdict:
    verdict = Verdict(
        metric=scores.metric,
        level=level,
        margin=margin,
        block=scores.block,
        methods=(),
        left_out=table.left_out,
        pairs=(),
        best=None,
        best_set=(),
        recommendations=(),
        smallest_detectable=None,
        smallest_margin=None,
        seeds=(),
        documents=len(table.documents),
        groups=n_groups,
        covers_seeds=False,
        sentences=(),
        notes=table.notes,
    )
    few = "methods with scored runs" if len(table.methods) < 2 else "test documents that every run scored"
    return verdict.model_copy(
        update={"sentences": (f"There is no verdict: fewer than two {few}.", *left_out(verdict), *table.notes)},
    )


def _methods(
    scores: Scores, table: Table, found: Moments, bounds: Floats, pairs: tuple[PairResult, ...], margin: float
) -> tuple[MethodResult, ...]:
    beaten = {pair.first for pair in pairs if pair.decision == "worse"}
    beaten |= {pair.second for pair in pairs if pair.decision == "better"}
    by_seed = table.values.mean(axis=2)
    results = []
    for index, method in enumerate(table.methods):
        varies = bool(table.varies[index])
        regret_bound = float(bounds[index])
        results.append(
            MethodResult(
                method=method,
                title=scores.title(method),
                mean=float(found.mean[index]),
                seed_means=tuple(by_seed[index].tolist()) if varies else (float(by_seed[index, 0]),),
                seed_sd=float(by_seed[index].std(ddof=1)) if varies and len(table.seeds) > 1 else None,
                may_be_best=method not in beaten,
                regret_bound=regret_bound,
                not_worse=regret_bound <= margin,
            )
        )
    return tuple(results)


def _pairs(
    table: Table, apart: Differences, widths: Floats, sees: Sensitivity, margin: float
) -> tuple[PairResult, ...]:
    results = []
    errors = np.sqrt(apart.variance)
    for index, (first, second) in enumerate(zip(apart.first.tolist(), apart.second.tolist(), strict=True)):
        difference = float(apart.estimate[index])
        low, high = difference - float(widths[index]), difference + float(widths[index])
        results.append(
            PairResult(
                first=table.methods[first],
                second=table.methods[second],
                difference=difference,
                low=low,
                high=high,
                standard_error=float(errors[index]),
                df=float(apart.df[index]) if errors[index] > 0 else None,
                decision=_decision(low, high, margin),
                size=_size(low, high, margin),
                smallest_detectable=float(sees.detectable[index]),
            )
        )
    return tuple(results)


def _decision(low: float, high: float, margin: float) -> Decision:
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "tie" if low >= -margin and high <= margin else "no difference shown"


def _size(low: float, high: float, margin: float) -> Relevance:
    if low > margin or high < -margin:
        return "matters"
    return "too small to matter" if low >= -margin and high <= margin else "not settled"


def _recommendations(scores: Scores, methods: tuple[MethodResult, ...]) -> tuple[Recommendation, ...]:
    if not scores.costs:
        return ()
    return tuple(_recommend(axis, scores, methods) for axis in COST_AXES if axis.recommended)


def _recommend(axis: CostAxis, scores: Scores, methods: tuple[MethodResult, ...]) -> Recommendation:
    shown = [result for result in methods if result.not_worse]
    candidates = shown or [result for result in methods if result.may_be_best]
    costs = {
        result.method: scores.costs.get(result.method, {}).get(axis.name, Cost(value=None, reason="not recorded"))
        for result in candidates
    }
    known = [result for result in candidates if costs[result.method].value is not None]
    without = tuple(result.title for result in candidates if costs[result.method].value is None)
    if not known:
        reasons: dict[str, list[str]] = {}
        for name, cost in costs.items():
            reasons.setdefault(cost.reason or "not measured", []).append(scores.title(name))
        return Recommendation(
            axis=axis.name,
            title=axis.title,
            unit=axis.unit,
            method=None,
            cost=None,
            without_cost=without,
            reason="; ".join(f"{reason} ({', '.join(names)})" for reason, names in reasons.items()),
        )

    def price(result: MethodResult) -> tuple[float, float]:
        return costs[result.method].value or 0.0, -result.mean

    chosen = min(known, key=price)
    equal = tuple(other.method for other in known if other is not chosen and price(other)[0] == price(chosen)[0])
    return Recommendation(
        axis=axis.name,
        title=axis.title,
        unit=axis.unit,
        method=chosen.method,
        cost=costs[chosen.method].value,
        settled=bool(shown),
        regret_bound=chosen.regret_bound,
        equally_cheap=equal,
        without_cost=without,
    )
