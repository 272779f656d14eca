"""The verdict of a study that stops when it is settled: intervals that hold at all looks at once. Pure.

A pair has the interval of the last look at both of its methods, so methods may differ in their number of seeds.
"""

from dataclasses import replace

import numpy as np

from tuneoff.results.summary import LookResult, LooksResult, MethodResult, PairResult, Verdict
from tuneoff.stats.multiple_comparisons import LEVEL, ComparisonWithBest, compare_bounds
from tuneoff.stats.power import sensitivity
from tuneoff.stats.sequential import Look
from tuneoff.verdict.decide import (
    decide,
    erratic_methods,
    method_results,
    no_difference_reported,
    pair_results,
    possible,
    prior_result,
    recommendations,
)
from tuneoff.verdict.look_sentences import look_sentences, too_early_sentence
from tuneoff.verdict.looks import StudyLooks, TakenLook
from tuneoff.verdict.scores import Scores, has_scores, tabulate
from tuneoff.verdict.sentences import unreported_sentences, verdict_sentences


def decide_by_looks(scores: Scores, looks: StudyLooks, margin: float) -> Verdict:
    """Compare the methods of one base model by the looks that were taken. `margin` is in points."""
    result = _looks_result(looks)
    table = tabulate(scores)
    if not looks.taken and len(table.methods) < 2:
        return decide(scores, margin).model_copy(update={"looks": result})
    if not looks.taken:
        verdict = no_difference_reported(scores, table, table.n_groups, margin, LEVEL)
        verdict = verdict.model_copy(update={"too_small": too_early_sentence(looks.planned), "looks": result})
        return verdict.model_copy(update={"sentences": unreported_sentences(verdict)})
    taken = [(one, one.found) for one in looks.taken if one.found is not None]
    if not taken:
        last = looks.taken[-1]
        verdict = decide(_at(scores, last), margin)
        result = result.model_copy(
            update={"sentences": look_sentences(result, verdict.methods, last.table.n_groups, LEVEL)}
        )
        return verdict.model_copy(update={"looks": result, "sentences": (*verdict.sentences, *result.sentences)})
    last, last_found = taken[-1]
    names = taken[0][0].table.methods
    last_look = {name: index for index, (one, _) in enumerate(taken) for name in one.table.methods}
    pairs, margins = _pairs(scores, taken, last_look, margin)
    with_best = _compare_with_best(taken, last_look, names)
    methods = _methods(scores, taken, last_look, names, with_best, margin)
    limit, found = scores.largest_difference, last_found.found
    known = [pair.smallest_detectable for pair in pairs]
    best_set = tuple(one.method for one in methods if one.may_be_best)
    scored = {name for (name, _), row in scores.scores.items() if has_scores(row)}
    verdict = Verdict(
        metric=scores.metric,
        level=LEVEL,
        margin=margin,
        block=scores.block,
        methods=methods,
        left_out=tuple(scores.title(name) for name in scores.methods if name not in names and name not in scored),
        pairs=pairs,
        best=max((one for one in methods if one.may_be_best), key=lambda one: one.mean).method,
        best_set=best_set,
        recommendations=recommendations(scores, methods),
        smallest_detectable=None if None in known else max(one for one in known if one is not None),
        smallest_margin=possible(max(margins), limit),
        seeds=last.table.seeds if any(one.table.varies.any() for one, _ in taken) else (),
        documents=len(last.table.documents),
        groups=last.table.n_groups,
        covers_seeds=True,
        sentences=(),
        notes=(*scores.notes, *last.table.notes),
        identical=scores.identical,
        trainings=found.spread.trainings,
        erratic=erratic_methods(last.table, found.spread),
        compared=scores.compared,
        decimals=scores.decimals,
        seed_prior=prior_result(found.prior),
        looks=result,
    )
    result = result.model_copy(
        update={"sentences": look_sentences(result, verdict.methods, last.table.n_groups, LEVEL)}
    )
    verdict = verdict.model_copy(update={"looks": result})
    return verdict.model_copy(update={"sentences": verdict_sentences(verdict)})


def _at(scores: Scores, one: TakenLook) -> Scores:
    """The scores that a look was at."""
    rows = {key: row for key, row in scores.scores.items() if key[0] in one.table.methods and key[1] < one.seeds}
    return replace(scores, scores=rows)


def _looks_result(looks: StudyLooks) -> LooksResult:
    taken = tuple(
        LookResult(
            seeds=one.seeds,
            level=None if one.found is None else one.found.level,
            information=None if one.found is None else one.found.information,
            methods=one.table.methods,
            stopped=one.stopped,
            failed=one.failed,
            end=one.end,
        )
        for one in looks.taken
    )
    ended = bool(taken) and taken[-1].end is not None
    coming = () if ended else looks.planned[len(taken) :]
    return LooksResult(
        planned=looks.planned,
        margin=looks.margin,
        taken=taken,
        left_out=tuple(seeds for seeds in coming if seeds > looks.most_seeds),
        runs=looks.runs,
        all_runs=looks.all_runs,
        saved_seconds=looks.saved_seconds,
    )


def _pairs(
    scores: Scores, taken: list[tuple[TakenLook, Look]], last_look: dict[str, int], margin: float
) -> tuple[tuple[PairResult, ...], list[float]]:
    """The pairs of all methods, each by the last look at both, and the margins that can be settled for them.

    One-sided p-values are those of a single look, so there are none.
    """
    none = {"p_better": None, "p_not_worse": None, "p_not_better": None}
    found: dict[tuple[str, str], tuple[PairResult, float]] = {}
    for index, (one, look) in enumerate(taken):
        resolution = sensitivity(look.found.differences, look.level)
        results = pair_results(
            one.table, look.found.differences, look.widths, resolution, margin, scores.largest_difference
        )
        for pair, smallest in zip(results, resolution.margin.tolist(), strict=True):
            if min(last_look[pair.first], last_look[pair.second]) == index:
                found[pair.first, pair.second] = pair.model_copy(update=none), smallest
    order = {name: position for position, name in enumerate(taken[0][0].table.methods)}
    keys = sorted(found, key=lambda key: (order[key[0]], order[key[1]]))
    return tuple(found[key][0] for key in keys), [found[key][1] for key in keys]


def _compare_with_best(
    taken: list[tuple[TakenLook, Look]], last_look: dict[str, int], names: tuple[str, ...]
) -> ComparisonWithBest:
    bounds = np.zeros((len(names), len(names)))
    for index, (one, look) in enumerate(taken):
        positions = {name: position for position, name in enumerate(one.table.methods)}
        for row, first in enumerate(names):
            for column, second in enumerate(names):
                if first != second and min(last_look[first], last_look[second]) == index:
                    bounds[row, column] = look.bounds[positions[first], positions[second]]
    found = compare_bounds(bounds) if (bounds.min(axis=1) >= 0).any() else None
    if found is None:  # looks contradict each other, which happens in fewer than 5 % of studies
        best = int(bounds.min(axis=1).argmax())
        candidates = np.arange(len(names)) == best
        found = ComparisonWithBest(candidates, np.maximum(bounds[best], 0.0))
    return found


def _methods(
    scores: Scores,
    taken: list[tuple[TakenLook, Look]],
    last_look: dict[str, int],
    names: tuple[str, ...],
    with_best: ComparisonWithBest,
    margin: float,
) -> tuple[MethodResult, ...]:
    """Each method with its seeds of the last look at it."""
    results: dict[str, MethodResult] = {}
    for index, (one, look) in enumerate(taken):
        own = [names.index(name) for name in one.table.methods]
        here = ComparisonWithBest(with_best.candidates[own], with_best.regret[own])
        for result in method_results(scores, one.table, look.means, here, margin, scores.largest_difference):
            if last_look[result.method] == index:
                results[result.method] = result
    return tuple(results[name] for name in names)
