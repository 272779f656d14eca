"""The verdict in sentences: the answer, what limits it, what to use, then the details."""

from tuneoff.metrics.registry import METRICS
from tuneoff.results.summary import ErraticMethod, MethodResult, PairResult, Recommendation, SeedPriorResult, Verdict
from tuneoff.stats.power import FEWEST_GROUPS
from tuneoff.text import join_words, plural
from tuneoff.verdict.nouns import NOUNS
from tuneoff.verdict.rounding import bound_text, interval_text
from tuneoff.verdict.study_size import StudySize, more_test_documents

_ENOUGH_SEEDS = 3
_MOST_PAIRS = 100
# A failure in this share of the trainings should be seen with a probability of 95 %.
_FAILURE_RATE = 0.3
_UNSEEN = 0.05
# Further seeds that narrow an interval by less are not worth their training.
_HARDLY = 0.1


def verdict_sentences(verdict: Verdict) -> tuple[str, ...]:
    """The verdict, from the most to the least important sentence."""
    titles = {result.method: result.title for result in verdict.methods}
    lines = [_answer(verdict, titles), *_identical(verdict, titles), *left_out(verdict), *_limits(verdict, titles)]
    lines += () if verdict.looks is None else verdict.looks.sentences
    lines += [*_recommendations(verdict, titles), _basis(verdict), *_unknown_costs(verdict)]
    rank = {result.method: index for index, result in enumerate(verdict.ranked)}
    ordered = sorted(verdict.pairs, key=lambda pair: sorted((rank[pair.first], rank[pair.second])))
    shown = ordered
    if len(ordered) > _MOST_PAIRS:  # they begin with those of the best method
        shown = ordered[: len(verdict.methods) - 1]
    lines += [_pair(pair, titles, verdict) for pair in shown]
    if len(shown) < len(ordered):
        lines.append(f"Not written out: {plural(len(ordered) - len(shown), 'other pair')}; --json has the intervals.")
    if len(verdict.best_set) > 1:
        lines += [_regret(result, verdict) for result in verdict.ranked if result.may_be_best or result.not_worse]
    return (*lines, *verdict.notes)


def unreported_sentences(verdict: Verdict) -> tuple[str, ...]:
    """The verdict of a study on which no difference is reported: why, and what was compared."""
    reasons = [reason for reason in (verdict.too_small, verdict.says_nothing) if reason is not None]
    titles = {result.method: result.title for result in verdict.methods}
    return (*reasons, *_identical(verdict, titles), *left_out(verdict), _compared(verdict), *verdict.notes)


def too_small_sentence(documents: int, seeds: int, size: StudySize | None, noun: str) -> str:
    """`documents` are what `noun` says. A study of no `seeds` trained nothing; `size` is None if it is not known."""
    parts = [plural(documents, noun)]
    if size is not None and size.steps:
        parts.append(plural(size.steps, "step"))
    if seeds:
        parts.append(plural(seeds, "seed"))
    sentence = f"Too small to tell: {', '.join(parts)}. "
    if size is None:
        return f"{sentence}Use {FEWEST_GROUPS} {noun}s or more."
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
    return [f"Not judged: {join_words(verdict.left_out)} {has} {NOUNS[verdict.compared].without_scores}."]


def _answer(verdict: Verdict, titles: dict[str, str]) -> str:
    top = next(result for result in verdict.methods if result.method == verdict.best)
    nouns, best = NOUNS[verdict.compared], f"{top.mean:.{verdict.decimals}f}"
    if len(verdict.best_set) == 1:
        # With missing runs the method is the best only of those that have some.
        these = f"these {nouns.system}s"
        if verdict.left_out:
            these = f"the {len(verdict.methods)} {nouns.system}s that {nouns.with_scores}"
        return f"{top.title} is the best of {these} ({best} points). {_others_are_worse(verdict, titles)}"
    others = [result for result in verdict.ranked if result.may_be_best and result is not top]
    if all(
        pair.decision == "tie"
        for pair in verdict.pairs
        if pair.first in verdict.best_set and pair.second in verdict.best_set
    ):
        rest = f" {_others_are_worse(verdict, titles)}" if len(verdict.best_set) < len(verdict.methods) else ""
        tied = join_words([top.title, *(result.title for result in others)])
        return f"It is a tie: {tied} are within {_points(verdict.margin)} of each other ({best} points).{rest}"
    same = next((group for group in verdict.identical if top.method in group), (top.method,))
    names = join_words([titles[name] for name in same])
    different = [result for result in others if result.method not in same]
    if not different:
        return f"No single winner: {names} wrote the same texts ({best}). {_others_are_worse(verdict, titles)}"
    closest, *further = different
    if len(same) > 1:
        lead = _lead(verdict, top.method, closest.method)
        return (
            f"No single winner: {names} wrote the same texts ({best}), and their lead over {closest.title} "
            f"({lead}) is within the noise."
        )
    lead = _lead(verdict, top.method, closest.method)
    also = f"; so are its leads over {join_words([titles[result.method] for result in further])}" if further else ""
    return (
        f"No single winner: {top.title} scores {_extreme(verdict)} ({best}), but its lead over {closest.title} "
        f"({lead}) is within the noise{also}."
    )


def _others_are_worse(verdict: Verdict, titles: dict[str, str]) -> str:
    """About the methods that are not among the best; names those that only the comparison with the best excludes."""
    system = NOUNS[verdict.compared].system
    names = [titles[name] for name in excluded_by_best_alone(verdict)]
    if not names:
        return f"Every other {system} is worse."
    beaten = len(verdict.methods) - len(verdict.best_set) - len(names)
    rest = f" Every further {system} is worse." if beaten else ""
    return (
        f"No other {system} is better, but {join_words(names)} may be equal: only the comparison with the best "
        f"excludes a better score, and the wider intervals of all pairs include zero.{rest}"
    )


def excluded_by_best_alone(verdict: Verdict) -> list[str]:
    """Methods that are not among the best, although no interval of a pair shows that they are worse.

    They are shown not to be better than the best method, but they may equal it.
    """
    beaten = {pair.first for pair in verdict.pairs if pair.decision == "worse"}
    beaten |= {pair.second for pair in verdict.pairs if pair.decision == "better"}
    return [one.method for one in verdict.methods if not one.may_be_best and one.method not in beaten]


def against_best(result: MethodResult, verdict: Verdict) -> str:
    """How a method compares with the best, in a few words; empty where no difference is reported."""
    if result.regret_bound is None:
        return ""
    if result.not_worse:
        return "within the margin of the best"
    if result.may_be_best:
        return "not settled"
    equal = result.method in excluded_by_best_alone(verdict)
    return "not better than the best" if equal else f"another {NOUNS[verdict.compared].system} is better"


def _lead(verdict: Verdict, first: str, second: str) -> str:
    """Difference of `first` to `second`, with the ends of its interval."""
    pair = next(pair for pair in verdict.pairs if {pair.first, pair.second} == {first, second})
    difference, low, high = pair.difference, pair.low, pair.high
    if pair.first != first:
        difference, low, high = -difference, -high, -low
    return interval_text(difference, low, high, verdict.margin, verdict.decimals)


def _extreme(verdict: Verdict) -> str:
    """Where the best mean is."""
    return "highest" if verdict.higher_is_better else "lowest"


def _limits(verdict: Verdict, titles: dict[str, str]) -> list[str]:
    nouns = NOUNS[verdict.compared]
    lines = [] if verdict.covers_seeds else [nouns.one_seed]
    lines += [_erratic(one, titles[one.method], verdict) for one in verdict.erratic]
    unseen = (1 - _FAILURE_RATE) ** verdict.trainings
    if verdict.trainings and unseen > _UNSEEN:
        lines.append(
            f"A {nouns.system} that fails in 3 of 10 {nouns.training}s shows no failure in "
            f"{plural(verdict.trainings, nouns.training)} with a probability of {100 * unseen:.0f} %. The intervals do "
            f"not cover failures that no {nouns.training} showed."
        )
    if any(pair.standard_error > 0 for pair in verdict.pairs):  # otherwise all scores are equal
        lines.append(_detectable(verdict, titles))
    return lines + _way_out(verdict, titles)


def _erratic(found: ErraticMethod, title: str, verdict: Verdict) -> str:
    nouns, decimals = NOUNS[verdict.compared], verdict.decimals
    trainings = f"{verdict.trainings} {nouns.training}s"
    sentence = (
        f"Caution: {title} differs far more between seeds than the other {nouns.system}s (standard deviation "
        f"{found.seed_sd:.{decimals}f} points in {trainings}, {found.others_sd:.{decimals}f} for the others): some of "
        f"its {nouns.training}s may have failed"
    )
    if verdict.trainings > len(verdict.seeds):
        return f"{sentence}. Its intervals account for the trainings at all fractions of the data."
    return f"{sentence}, and {trainings} hardly show how many do. Use more seeds."


def _detectable(verdict: Verdict, titles: dict[str, str]) -> str:
    """The smallest differences that are detected, by pair: one noisy pair does not speak for all others."""
    known = [pair.smallest_detectable for pair in verdict.pairs if pair.smallest_detectable is not None]
    if not known:
        item = NOUNS[verdict.compared].item
        return f"No difference that is possible would be detected: use more {item}s or more seeds."
    decimals = verdict.decimals
    shown = sorted({bound_text(value, decimals) for value in (min(known), max(known))}, key=float)
    by_pair = ", depending on the pair" if len(shown) > 1 else ""
    sentence = f"Smallest difference that is detected with 80 % power: {' to '.join(shown)} points{by_pair}"
    top, second = verdict.ranked[:2]
    pair = next(pair for pair in verdict.pairs if {pair.first, pair.second} == {top.method, second.method})
    if len(shown) > 1 and pair.smallest_detectable is not None:
        names = join_words([titles[top.method], titles[second.method]])
        sentence += f"; {bound_text(pair.smallest_detectable, decimals)} for {names}, which score {_extreme(verdict)}"
    impossible = len(verdict.pairs) - len(known)
    if impossible:
        sentence += f". For {plural(impossible, 'pair')}, no difference that is possible would be detected"
    if 1 < len(verdict.seeds) <= _ENOUGH_SEEDS:
        sentence += f". With {len(verdict.seeds)} seeds these figures are themselves rough estimates"
    margin = verdict.smallest_margin
    equal = f"for every {NOUNS[verdict.compared].system} that equals the best"
    return f"{sentence}. " + (
        f"No margin can be settled {equal}."
        if margin is None
        else f"Smallest margin that can be settled {equal}: {bound_text(margin, decimals)} points."
    )


def _way_out(verdict: Verdict, titles: dict[str, str]) -> list[str]:
    """What would settle which of the two best is better: seeds or documents; empty where that is answered."""
    if len(verdict.best_set) < 2:
        return []
    top, closest = [result.method for result in verdict.ranked if result.may_be_best][:2]
    pair = next(pair for pair in verdict.pairs if {pair.first, pair.second} == {top, closest})
    by_seeds, by_documents = pair.narrower_by_seeds, pair.narrower_by_documents
    if pair.decision != "no difference shown" or by_seeds is None or by_documents is None:
        return []
    items = f"{NOUNS[verdict.compared].item}s"
    sentence = (
        f"Twice as many seeds would narrow the interval of {titles[top]} and {titles[closest]} by about "
        f"{100 * by_seeds:.0f} %, twice as many {items} by about {100 * by_documents:.0f} %"
    )
    if by_seeds < _HARDLY:
        sentence += f": the {items} are the limit, and further seeds would hardly help"
    return [f"{sentence}."]


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
        f"the best (regret bounds, and which {NOUNS[verdict.compared].system}s may be the best) is a second "
        f"statement with {sure} confidence."
        f"{_seed_basis(verdict.seed_prior)}"
    )


def _seed_basis(prior: SeedPriorResult | None) -> str:
    """What the seed part of the errors rests on, besides the seeds of each method."""
    if prior is None:
        return ""
    return (
        f" How much the trainings of a method differ is estimated from its own seeds and from all {prior.cells} sets "
        f"of trainings of the study (standard deviation between seeds {prior.seed_sd:.1f} points, which counts as "
        f"{prior.df:.1f} further degrees of freedom)."
    )


def _compared(verdict: Verdict) -> str:
    where = f" with {verdict.block}" if verdict.block else ""
    nouns = NOUNS[verdict.compared]
    documents = plural(verdict.documents, nouns.item)
    if verdict.groups != verdict.documents:
        documents = nouns.of_groups.format(items=verdict.documents, groups=verdict.groups)
    fewer = "" if len({len(one.seed_means) for one in verdict.methods} - {1}) < 2 else "at most "
    seeds = f", {fewer}{plural(len(verdict.seeds), nouns.seed)}" if verdict.seeds else ""
    metric = METRICS[verdict.metric].title if verdict.metric in METRICS else verdict.metric
    less = "" if verdict.higher_is_better else " (less is better: differences are how much better the first is)"
    systems = plural(len(verdict.methods), nouns.system)
    return f"Judged by {metric}{less}{where}: {systems} on the same {documents}{seeds}."


def _pair(pair: PairResult, titles: dict[str, str], verdict: Verdict) -> str:
    margin = verdict.margin
    first, second, difference, low, high = pair.first, pair.second, pair.difference, pair.low, pair.high
    if difference < 0:
        first, second, difference, low, high = second, first, -difference, -high, -low
    one, other = titles[first], titles[second]
    numbers = interval_text(difference, low, high, margin, verdict.decimals)
    if pair.decision == "tie":
        if low == high == 0:
            item = "document" if verdict.compared == "methods" else "item"
            return f"{one} and {other} are a tie: they score the same on every {item}."
        return f"{one} and {other} are a tie: any difference is within {_points(margin)} ({numbers})."
    if pair.decision == "no difference shown":
        if first == verdict.best and second in excluded_by_best_alone(verdict):
            return (
                f"{one} and {other}: the interval of all pairs includes zero ({numbers}); the comparison with the "
                f"best, which is narrower, shows that {other} is not better."
            )
        hidden = bound_text(max(-low, high), verdict.decimals)
        return f"{one} and {other}: no difference shown ({numbers}). Up to {hidden} points may be hidden."
    if margin == 0:  # nothing is too small to matter
        return f"{one} is better than {other} ({numbers})."
    relevance = {
        "matters": f", by more than the margin of {_points(margin)}",
        "too small to matter": f", but by less than the margin of {_points(margin)}",
        "not settled": f"; whether by more than the margin of {_points(margin)} is not settled",
    }[pair.size]
    return f"{one} is better than {other} ({numbers}){relevance}."


def _regret(result: MethodResult, verdict: Verdict) -> str:
    below = "below" if verdict.higher_is_better else "worse than"
    if result.not_worse:
        return f"{result.title} is at most {_points(verdict.margin)} {below} the best."
    bound = bound_text(result.regret_bound or 0.0, verdict.decimals)
    return f"{result.title} may be up to {bound} points {below} the best (regret bound)."


def _points(margin: float) -> str:
    return f"{margin:g} point{'' if margin == 1 else 's'}"
