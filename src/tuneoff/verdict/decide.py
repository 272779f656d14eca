"""From scores to the verdict. A pure function: the same scores give the same verdict; no file is read or written."""

import math
from collections.abc import Sequence

import numpy as np

from tuneoff.results.cost_axes import COST_AXES, Cost, CostAxis
from tuneoff.results.summary import (
    Decision,
    ErraticMethod,
    MethodResult,
    PairResult,
    Recommendation,
    Relevance,
    SeedPriorResult,
    Verdict,
)
from tuneoff.spec.study import MARGIN
from tuneoff.stats.moderation import SeedPrior, study_differences
from tuneoff.stats.multiple_comparisons import (
    LEVEL,
    ComparisonWithBest,
    compare_with_best,
    one_sided_p_values,
    simultaneous_half_widths,
)
from tuneoff.stats.power import FEWEST_GROUPS, Sensitivity, narrowing_by_doubling, sensitivity
from tuneoff.stats.seed_spread import SeedSpread
from tuneoff.stats.variance_components import (
    Floats,
    MeanEstimates,
    PairwiseDifferences,
    estimate_means,
    group_contributions,
)
from tuneoff.verdict.nouns import NOUNS
from tuneoff.verdict.scores import Scores, ScoreTable, tabulate, training_means
from tuneoff.verdict.sentences import left_out, too_small_sentence, unreported_sentences, verdict_sentences

# Points. A smaller difference of two means is an error of rounding.
_ROUNDING = 1e-9


def decide(scores: Scores, margin: float = MARGIN, level: float = LEVEL, *, smaller: Sequence[Scores] = ()) -> Verdict:
    """Compare the methods of one base model by one metric.

    The verdict makes two statements. Each holds for all methods at once with probability `level`: the intervals of all
    pairs, which decide who is better, and the comparison with the best, which decides who may be the best and bounds
    the regret of each method.

    Args:
        scores: scores and costs of the methods.
        margin: difference that does not matter in practice, points.
        level: confidence level, in (0, 1).
        smaller: scores of the same methods after training on smaller fractions of the data. They only show how much
            trainings differ between seeds.

    Raises:
        ValueError: `margin` is negative or not finite, `level` is outside (0, 1), or a method is named twice.
    """
    if not 0 <= margin < math.inf or not 0 < level < 1:
        raise ValueError(f"margin must be finite and at least 0, level between 0 and 1; got {margin} and {level}")
    table = tabulate(scores)
    n_groups = table.n_groups
    if len(table.methods) < 2 or n_groups < 2:
        return _nothing_to_compare(scores, table, n_groups, margin, level)
    if reports_nothing(scores, table):
        return no_difference_reported(scores, table, n_groups, margin, level)
    # All that follows takes more for better.
    sign = 1.0 if scores.higher_is_better else -1.0
    means = estimate_means(group_contributions(sign * table.values, table.group_of), table.varies)
    found = study_differences(means, training_means(table, map(tabulate, smaller)))
    differences, spread = found.differences, found.spread
    if shows_no_chance(differences):
        return no_difference_reported(scores, table, n_groups, margin, level)
    resolution = sensitivity(differences, level)
    limit = scores.largest_difference
    widths = simultaneous_half_widths(differences, level)
    pairs = pair_results(table, differences, widths, resolution, margin, limit)
    with_best = compare_with_best(differences, means.mean, level)
    methods = method_results(scores, table, means, with_best, margin, limit)
    best = table.methods[int(np.argmax(means.mean))]
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
        recommendations=recommendations(scores, methods),
        smallest_detectable=possible(resolution.smallest_difference, limit),
        smallest_margin=possible(resolution.smallest_margin, limit),
        seeds=table.seeds if table.varies.any() else (),
        documents=len(table.documents),
        groups=n_groups,
        covers_seeds=len(table.seeds) > 1 or not table.varies.any(),
        sentences=(),
        notes=table.notes,
        identical=scores.identical,
        trainings=spread.trainings,
        erratic=erratic_methods(table, spread),
        compared=scores.compared,
        higher_is_better=scores.higher_is_better,
        decimals=scores.decimals,
        seed_prior=prior_result(found.prior),
    )
    return verdict.model_copy(update={"sentences": verdict_sentences(verdict)})


def reports_nothing(scores: Scores, table: ScoreTable) -> bool:
    """Whether no difference is reported: too few documents, or outputs that measure nothing."""
    return table.n_groups < FEWEST_GROUPS or scores.says_nothing is not None or not table.values.any()


def shows_no_chance(differences: PairwiseDifferences) -> bool:
    """Whether two methods differ by the same amount everywhere, so that chance cannot be estimated."""
    return bool(np.any((differences.variance == 0) & (np.abs(differences.estimate) > _ROUNDING)))


def erratic_methods(table: ScoreTable, spread: SeedSpread) -> tuple[ErraticMethod, ...]:
    """The methods whose trainings differ far more than those of the others."""
    return tuple(
        ErraticMethod(
            method=name, seed_sd=float(spread.variance[index]) ** 0.5, others_sd=float(spread.others[index]) ** 0.5
        )
        for index, name in enumerate(table.methods)
        if spread.erratic[index]
    )


def prior_result(prior: SeedPrior | None) -> SeedPriorResult | None:
    """The prior as the verdict reports it."""
    if prior is None:
        return None
    return SeedPriorResult(seed_sd=prior.variance**0.5, df=prior.df, cells=prior.cells)


def possible(difference: float, limit: float) -> float | None:
    """A difference, unless it is larger than `limit`."""
    return difference if difference <= limit else None


def no_difference_reported(scores: Scores, table: ScoreTable, n_groups: int, margin: float, level: float) -> Verdict:
    """The means alone: too few documents, no spread between them, or outputs that measure nothing."""
    nouns = NOUNS[scores.compared]
    noun = nouns.item if n_groups == len(table.documents) else nouns.group
    by_seed = table.values.mean(axis=2)
    seeds = table.seeds if table.varies.any() else ()
    methods = tuple(
        MethodResult(
            method=method,
            title=scores.title(method),
            mean=float(by_seed[index].mean()),
            seed_means=tuple(by_seed[index].tolist()) if table.varies[index] else (float(by_seed[index, 0]),),
            seed_sd=float(by_seed[index].std(ddof=1)) if table.varies[index] and len(table.seeds) > 1 else None,
            may_be_best=True,
            regret_bound=None,
            not_worse=False,
        )
        for index, method in enumerate(table.methods)
    )
    nothing = scores.says_nothing
    if nothing is None and not table.values.any():
        nothing = f"Nothing was measured: every score is 0.{nouns.look}"
    small = None
    if n_groups < FEWEST_GROUPS:
        small = too_small_sentence(n_groups, len(seeds), scores.size, noun)
    elif nothing is None:
        small = (
            f"Nothing to tell: two {nouns.system}s differ by the same amount on each of the {n_groups} {noun}s, "
            f"so chance cannot be estimated.{nouns.look and ' Read the outputs in the report.'}"
        )
    verdict = _without_result(scores, table, n_groups, margin, level).model_copy(
        update={
            "methods": methods,
            "best_set": table.methods,
            "seeds": seeds,
            "covers_seeds": len(table.seeds) > 1 or not table.varies.any(),
            "too_small": small,
            "says_nothing": nothing,
            "identical": scores.identical,
        }
    )
    return verdict.model_copy(update={"sentences": unreported_sentences(verdict)})


def _without_result(scores: Scores, table: ScoreTable, n_groups: int, margin: float, level: float) -> Verdict:
    """A verdict that names what was looked at and compares nothing."""
    return Verdict(
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
        compared=scores.compared,
        higher_is_better=scores.higher_is_better,
        decimals=scores.decimals,
    )


def _nothing_to_compare(scores: Scores, table: ScoreTable, n_groups: int, margin: float, level: float) -> Verdict:
    verdict = _without_result(scores, table, n_groups, margin, level)
    nouns = NOUNS[scores.compared]
    scored = "methods with scored runs" if scores.compared == "methods" else "systems with scores"
    missing = scored if len(table.methods) < 2 else f"{nouns.item}s that every run scored"
    return verdict.model_copy(
        update={"sentences": (f"There is no verdict: fewer than two {missing}.", *left_out(verdict), *table.notes)},
    )


def method_results(
    scores: Scores,
    table: ScoreTable,
    means: MeanEstimates,
    with_best: ComparisonWithBest,
    margin: float,
    limit: float,
) -> tuple[MethodResult, ...]:
    """The methods in `table`. `limit` is the largest possible difference; `means` are negative where less is better."""
    sign = 1.0 if scores.higher_is_better else -1.0
    by_seed = table.values.mean(axis=2)
    results = []
    for index, method in enumerate(table.methods):
        varies = bool(table.varies[index])
        bound = min(float(with_best.regret[index]), limit)
        results.append(
            MethodResult(
                method=method,
                title=scores.title(method),
                mean=sign * float(means.mean[index]),
                seed_means=tuple(by_seed[index].tolist()) if varies else (float(by_seed[index, 0]),),
                seed_sd=float(by_seed[index].std(ddof=1)) if varies and len(table.seeds) > 1 else None,
                may_be_best=bool(with_best.candidates[index]),
                regret_bound=bound,
                not_worse=bound <= margin,
            )
        )
    return tuple(results)


def pair_results(
    table: ScoreTable,
    differences: PairwiseDifferences,
    widths: Floats,
    resolution: Sensitivity,
    margin: float,
    limit: float,
) -> tuple[PairResult, ...]:
    """All pairs of the methods in `table`.

    `widths` (P,) are the half-widths of the simultaneous intervals; `limit` is the largest possible difference.
    """
    results = []
    errors = np.sqrt(differences.variance)
    better, not_worse = (one_sided_p_values(differences, least) for least in (0.0, -margin))
    not_better = 1.0 - one_sided_p_values(differences, margin)
    seeds_known = differences.seeds_df > 0
    narrowing = narrowing_by_doubling(differences)
    for index, (first, second) in enumerate(zip(differences.first.tolist(), differences.second.tolist(), strict=True)):
        difference = float(differences.estimate[index])
        low = max(difference - float(widths[index]), -limit)
        high = min(difference + float(widths[index]), limit)
        results.append(
            PairResult(
                first=table.methods[first],
                second=table.methods[second],
                difference=difference,
                low=low,
                high=high,
                standard_error=float(errors[index]),
                df=float(differences.df[index]) if errors[index] > 0 else None,
                decision=_decision(low, high, margin),
                size=_relevance(low, high, margin),
                smallest_detectable=possible(float(resolution.detectable[index]), limit),
                p_better=float(better[index]),
                p_not_worse=float(not_worse[index]),
                p_not_better=float(not_better[index]),
                narrower_by_seeds=float(narrowing.seeds[index]) if seeds_known[index] else None,
                narrower_by_documents=float(narrowing.documents[index]) if seeds_known[index] else None,
            )
        )
    return tuple(results)


def _decision(low: float, high: float, margin: float) -> Decision:
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "tie" if low >= -margin and high <= margin else "no difference shown"


def _relevance(low: float, high: float, margin: float) -> Relevance:
    if low > margin or high < -margin:
        return "matters"
    return "too small to matter" if low >= -margin and high <= margin else "not settled"


def recommendations(scores: Scores, methods: tuple[MethodResult, ...]) -> tuple[Recommendation, ...]:
    """The cheapest method on each axis; empty without costs."""
    if not scores.costs:
        return ()
    return tuple(_recommend(axis, scores, methods) for axis in COST_AXES if axis.recommended)


def _recommend(axis: CostAxis, scores: Scores, methods: tuple[MethodResult, ...]) -> Recommendation:
    """The cheapest method among those shown not to be worse than the best; without any, among those that may be best.

    Methods of equal cost are ranked by their mean.
    """
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
