"""The verdict in sentences: the answer, what limits it, what to use, then the details."""

from tuneoff.metrics.registry import METRICS
from tuneoff.results.summary import ErraticMethod, MethodResult, PairResult, Recommendation, Verdict
from tuneoff.stats.power import FEWEST_GROUPS
from tuneoff.text import join_words, plural
from tuneoff.verdict.rounding import bound_text, interval_text
from tuneoff.verdict.study_size import StudySize, more_test_documents

_ENOUGH_SEEDS = 3
# A failure in this share of the trainings should be seen with a probability of 95 %.
_FAILURE_RATE = 0.3
_UNSEEN = 0.05


def verdict_sentences(verdict: Verdict) -> tuple[str, ...]:
    """The verdict, from the most to the least important sentence."""
    titles = {result.method: result.title for result in verdict.methods}
    lines = [_answer(verdict, titles), *_identical(verdict, titles), *left_out(verdict), *_limits(verdict, titles)]
    lines += [*_recommendations(verdict, titles), _basis(verdict), *_unknown_costs(verdict)]
    ranked = sorted(verdict.methods, key=lambda result: -result.mean)
    rank = {result.method: index for index, result in enumerate(ranked)}
    ordered = sorted(verdict.pairs, key=lambda pair: sorted((rank[pair.first], rank[pair.second])))
    lines += [_pair(pair, titles, verdict) for pair in ordered]
    if len(verdict.best_set) > 1:
        lines += [_regret(result, verdict.margin) for result in ranked if result.may_be_best or result.not_worse]
    return (*lines, *verdict.notes)


def unreported_sentences(verdict: Verdict) -> tuple[str, ...]:
    """The verdict of a study on which no difference is reported: why, and what was compared."""
    reasons = [reason for reason in (verdict.too_small, verdict.says_nothing) if reason is not None]
    titles = {result.method: result.title for result in verdict.methods}
    return (*reasons, *_identical(verdict, titles), *left_out(verdict), _compared(verdict), *verdict.notes)


def too_small_sentence(documents: int, seeds: int, size: StudySize | None) -> str:
    """`documents` are test documents. A study of no `seeds` trained nothing; `size` is None if it is not known."""
    parts = [plural(documents, "test document")]
    if size is not None and size.steps:
        parts.append(plural(size.steps, "step"))
    if seeds:
        parts.append(plural(seeds, "seed"))
    sentence = f"Too small to tell: {', '.join(parts)}. "
    if size is None:
        return f"{sentence}Use {FEWEST_GROUPS} test documents or more."
    advice = more_test_documents(size.examples, held_out=size.held_out, limit=size.test_limit)
    if 0 < seeds < _ENOUGH_SEEDS:
        advice += f", and --seeds {_ENOUGH_SEEDS}"
    return f"{sentence}{advice[:1].upper()}{advice[1:]} (in a new folder: --output)."


def _identical(verdict: Verdict, titles: dict[str, str]) -> list[str]:
    return [
        f"{join_words([titles[name] for name in names])} wrote the same texts for every document, so none of them is "
        "better."
        for group in verdict.identical
        if len(names := [name for name in group if name in titles]) > 1
    ]


def left_out(verdict: Verdict) -> list[str]:
    """A sentence about the methods without a result; empty if there are none."""
    if not verdict.left_out:
        return []
    has = "has" if len(verdict.left_out) == 1 else "have"
    return [f"Not judged: {join_words(verdict.left_out)} {has} no finished, scored run."]


def _answer(verdict: Verdict, titles: dict[str, str]) -> str:
    top = next(result for result in verdict.methods if result.method == verdict.best)
    if len(verdict.best_set) == 1:
        # With missing runs the method is the best only of those that have some.
        these = f"the {len(verdict.methods)} methods that have runs" if verdict.left_out else "these methods"
        return f"{top.title} is the best of {these} ({top.mean:.1f} points). {_others_are_worse(verdict, titles)}"
    others = [result for result in verdict.methods if result.may_be_best and result is not top]
    others.sort(key=lambda result: -result.mean)
    if all(
        pair.decision == "tie"
        for pair in verdict.pairs
        if pair.first in verdict.best_set and pair.second in verdict.best_set
    ):
        rest = f" {_others_are_worse(verdict, titles)}" if len(verdict.best_set) < len(verdict.methods) else ""
        tied = join_words([top.title, *(result.title for result in others)])
        return f"It is a tie: {tied} are within {_points(verdict.margin)} of each other ({top.mean:.1f} points).{rest}"
    same = next((group for group in verdict.identical if top.method in group), (top.method,))
    closest, *further = [result for result in others if result.method not in same]
    if len(same) > 1:
        names = join_words([titles[name] for name in same])
        lead = _lead(verdict, top.method, closest.method)
        return (
            f"No single winner: {names} wrote the same texts ({top.mean:.1f}), and their lead over {closest.title} "
            f"({lead}) is within the noise."
        )
    lead = _lead(verdict, top.method, closest.method)
    also = f"; so are its leads over {join_words([titles[result.method] for result in further])}" if further else ""
    return (
        f"No single winner: {top.title} scores highest ({top.mean:.1f}), but its lead over {closest.title} ({lead}) is "
        f"within the noise{also}."
    )


def _others_are_worse(verdict: Verdict, titles: dict[str, str]) -> str:
    """About the methods that are not among the best; names those that only the comparison with the best excludes."""
    names = [titles[name] for name in excluded_by_best_alone(verdict)]
    if not names:
        return "Every other method is worse."
    some = len(names) + 1 < len(verdict.methods)
    others = "Every other method is worse, except for" if some else "Not shown to be worse:"
    return (
        f"No other method is better. {others} {join_words(names)}, which may be equal: only the comparison with the "
        "best excludes a better score, and the wider intervals of all pairs include zero."
    )


def excluded_by_best_alone(verdict: Verdict) -> list[str]:
    """Methods that are not among the best, although no interval of a pair shows that they are worse.

    They are shown not to be better than the best method, but they may equal it.
    """
    beaten = {pair.first for pair in verdict.pairs if pair.decision == "worse"}
    beaten |= {pair.second for pair in verdict.pairs if pair.decision == "better"}
    return [one.method for one in verdict.methods if not one.may_be_best and one.method not in beaten]


def _lead(verdict: Verdict, first: str, second: str) -> str:
    """Difference of `first` to `second`, with the ends of its interval."""
    pair = next(pair for pair in verdict.pairs if {pair.first, pair.second} == {first, second})
    difference, low, high = pair.difference, pair.low, pair.high
    if pair.first != first:
        difference, low, high = -difference, -high, -low
    return interval_text(difference, low, high, verdict.margin)


def _limits(verdict: Verdict, titles: dict[str, str]) -> list[str]:
    lines = []
    if not verdict.covers_seeds:
        lines.append(
            "Only one training seed: this holds for these trained models, not for the methods. Use at least 3 seeds."
        )
    lines += [_erratic(one, titles[one.method], verdict) for one in verdict.erratic]
    unseen = (1 - _FAILURE_RATE) ** verdict.trainings
    if verdict.trainings and unseen > _UNSEEN:
        lines.append(
            f"A method that fails in 3 of 10 trainings shows no failure in {verdict.trainings} trainings with a "
            f"probability of {100 * unseen:.0f} %. The intervals do not cover failures that no training showed."
        )
    if any(pair.standard_error > 0 for pair in verdict.pairs):  # otherwise all scores are equal
        lines.append(_detectable(verdict, titles))
    return lines


def _erratic(found: ErraticMethod, title: str, verdict: Verdict) -> str:
    sentence = (
        f"Caution: {title} differs far more between seeds than the other methods (standard deviation "
        f"{found.seed_sd:.1f} points in {verdict.trainings} trainings, {found.others_sd:.1f} for the others): some of "
        "its trainings may have failed"
    )
    if verdict.trainings > len(verdict.seeds):
        return f"{sentence}. Its intervals account for the trainings at all fractions of the data."
    return f"{sentence}, and {verdict.trainings} trainings hardly show how many do. Use more seeds."


def _detectable(verdict: Verdict, titles: dict[str, str]) -> str:
    """The smallest differences that are detected, by pair: one noisy pair does not speak for all others."""
    known = [pair.smallest_detectable for pair in verdict.pairs if pair.smallest_detectable is not None]
    if not known:
        return "No difference that is possible would be detected: use more test documents or more seeds."
    shown = sorted({bound_text(value) for value in (min(known), max(known))}, key=float)
    by_pair = ", depending on the pair" if len(shown) > 1 else ""
    sentence = f"Smallest difference that is detected with 80 % power: {' to '.join(shown)} points{by_pair}"
    top, second = sorted(verdict.methods, key=lambda result: -result.mean)[:2]
    pair = next(pair for pair in verdict.pairs if {pair.first, pair.second} == {top.method, second.method})
    if len(shown) > 1 and pair.smallest_detectable is not None:
        names = join_words([titles[top.method], titles[second.method]])
        sentence += f"; {bound_text(pair.smallest_detectable)} for {names}, which score highest"
    impossible = len(verdict.pairs) - len(known)
    if impossible:
        sentence += f". For {plural(impossible, 'pair')}, no difference that is possible would be detected"
    if 1 < len(verdict.seeds) <= _ENOUGH_SEEDS:
        sentence += f". With {len(verdict.seeds)} seeds these figures are themselves rough estimates"
    margin = verdict.smallest_margin
    return f"{sentence}. " + (
        "No margin can be settled for every method that equals the best."
        if margin is None
        else f"Smallest margin that can be settled for every method that equals the best: {bound_text(margin)} points."
    )


def _recommendations(verdict: Verdict, titles: dict[str, str]) -> list[str]:
    chosen: dict[tuple[str, ...], list[Recommendation]] = {}
    for entry in verdict.recommendations:
        if entry.method is not None:
            chosen.setdefault((entry.method, *entry.equally_cheap), []).append(entry)
    lines = []
    for names, entries in chosen.items():
        axes = join_words([entry.title for entry in entries])
        who = join_words([titles[name] for name in names])
        if entries[0].settled:
            lines.append(f"Cheapest in {axes} of all methods within {_points(verdict.margin)} of the best: {who}.")
        else:
            bound = bound_text(max(result.regret_bound or 0.0 for result in verdict.methods if result.method in names))
            lines.append(
                f"Cheapest in {axes} of all methods that may be the best: {who} "
                f"(not settled: regret bound {bound} points)."
            )
    return lines


def _unknown_costs(verdict: Verdict) -> list[str]:
    """Methods and axes without a recommendation."""
    none: dict[str, list[str]] = {}
    unknown: dict[tuple[str, ...], list[str]] = {}
    for entry in verdict.recommendations:
        if entry.method is None:
            none.setdefault(entry.reason or "not measured", []).append(entry.title)
        elif entry.without_cost:
            unknown.setdefault(entry.without_cost, []).append(entry.title)
    lines = [
        f"Not compared in {join_words(axes)}, because the cost is unknown: {join_words(who)}."
        for who, axes in unknown.items()
    ]
    return lines + [f"No recommendation for {join_words(axes)}: {reason}." for reason, axes in none.items()]


def _basis(verdict: Verdict) -> str:
    sure = f"{100 * verdict.level:g} %"
    return (
        f"{_compared(verdict)} The intervals hold for all pairs at once with {sure} confidence. The comparison with "
        f"the best (regret bounds, and which methods may be the best) is a second statement with {sure} confidence."
    )


def _compared(verdict: Verdict) -> str:
    where = f" with {verdict.block}" if verdict.block else ""
    documents = plural(verdict.documents, "test document")
    if verdict.groups != verdict.documents:
        documents = f"{verdict.documents} test examples of {verdict.groups} documents"
    seeds = f", {plural(len(verdict.seeds), 'training seed')}" if verdict.seeds else ""
    metric = METRICS[verdict.metric].title if verdict.metric in METRICS else verdict.metric
    return f"Judged by {metric}{where}: {plural(len(verdict.methods), 'method')} on the same {documents}{seeds}."


def _pair(pair: PairResult, titles: dict[str, str], verdict: Verdict) -> str:
    margin = verdict.margin
    first, second, difference, low, high = pair.first, pair.second, pair.difference, pair.low, pair.high
    if difference < 0:
        first, second, difference, low, high = second, first, -difference, -high, -low
    one, other = titles[first], titles[second]
    numbers = interval_text(difference, low, high, margin)
    if pair.decision == "tie":
        if low == high == 0:
            return f"{one} and {other} are a tie: they score the same on every document."
        return f"{one} and {other} are a tie: any difference is within {_points(margin)} ({numbers})."
    if pair.decision == "no difference shown":
        if first == verdict.best and second in excluded_by_best_alone(verdict):
            return (
                f"{one} and {other}: the interval of all pairs includes zero ({numbers}); the comparison with the "
                f"best, which is narrower, shows that {other} is not better."
            )
        hidden = bound_text(max(-low, high))
        return f"{one} and {other}: no difference shown ({numbers}). Up to {hidden} points may be hidden."
    relevance = {
        "matters": f", by more than the margin of {_points(margin)}",
        "too small to matter": f", but by less than the margin of {_points(margin)}",
        "not settled": f"; whether by more than the margin of {_points(margin)} is not settled",
    }[pair.size]
    return f"{one} is better than {other} ({numbers}){relevance}."


def _regret(result: MethodResult, margin: float) -> str:
    if result.not_worse:
        return f"{result.title} is at most {_points(margin)} below the best."
    return f"{result.title} may be up to {bound_text(result.regret_bound or 0.0)} points below the best (regret bound)."


def _points(margin: float) -> str:
    return f"{margin:g} point{'' if margin == 1 else 's'}"
