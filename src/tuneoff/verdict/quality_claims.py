"""Claims about the scores of two methods: `better`, `equal` and `at_least`.

A claim was written before the study, so it need not be read off the intervals of all pairs. It is supported by a
one-sided test of its own pair, with Holm's correction for the number of claims about quality (Holm 1979, A Simple
Sequentially Rejective Multiple Test Procedure); all supported claims together hold with the level of the verdict. It is
contradicted by the simultaneous intervals of the verdict, or of `tuneoff.verdict.data_sizes` at a smaller fraction of
the data. With more claims than pairs the intervals are the sharper ones, and decide both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tuneoff.results.summary import BandPoint, ClaimOutcome, DataSizeVerdict, JudgedClaim, PairResult, Verdict
from tuneoff.spec.study import ClaimSpec
from tuneoff.stats.multiple_comparisons import rejected_by_holm
from tuneoff.text import plural
from tuneoff.verdict.rounding import interval_decimals, round_outwards

QUALITY = ("better", "equal", "at_least")


@dataclass(frozen=True)
class _Pair:
    """What the study says about the first method of a claim minus the second, in points."""

    difference: float
    low: float
    high: float
    covers_seeds: bool
    p_values: tuple[float, float, float] | None  # better, not worse, not better; None in a verdict without them


def judge_quality(
    claims: Sequence[ClaimSpec], verdict: Verdict, sizes: DataSizeVerdict | None, margin: float
) -> list[JudgedClaim]:
    """Judge claims about quality, all at once, for one base model.

    Args:
        claims: claims whose kind is in `QUALITY`.
        verdict: verdict at all the data.
        sizes: results at smaller fractions, if there are any.
        margin: difference that does not matter in practice, points.
    """
    pairs = [_find_pair(claim, verdict, sizes) for claim in claims]
    p_values = [_p_value(claim, pair) for claim, pair in zip(claims, pairs, strict=True)]
    supported: list[bool] | None = None
    known = [1.0 if p_value is None else p_value for p_value in p_values]  # one without runs is not supported
    if len(claims) <= len(verdict.pairs) and any(p_value is not None for p_value in p_values):
        supported = rejected_by_holm(known, 1.0 - verdict.level)
    judged = []
    for index, (claim, pair) in enumerate(zip(claims, pairs, strict=True)):
        if pair is None:
            nothing = verdict.too_small is not None or verdict.says_nothing is not None
            why = "no difference is reported; see the verdict" if nothing else "runs are missing"
            judged.append(JudgedClaim(text=claim.text, outcome="undecided", why=why))
            continue
        outcome = _by_interval(claim, pair, margin)
        why = _interval_of(pair, margin)
        if supported is not None and p_values[index] is not None:
            if outcome != "contradicted":
                outcome = "supported" if supported[index] else "undecided"
            why += f"; one-sided p {p_values[index]:.2g}, Holm's correction for {plural(len(claims), 'claim')}"
        if not pair.covers_seeds:
            why += "; one seed: holds for these trained models, not for the methods"
        judged.append(JudgedClaim(text=claim.text, outcome=outcome, why=why))
    return judged


def _find_pair(claim: ClaimSpec, verdict: Verdict, sizes: DataSizeVerdict | None) -> _Pair | None:
    names = claim.methods
    if claim.fraction == 1:
        for pair in verdict.pairs:
            if {pair.first, pair.second} == set(names):
                found = _Pair(pair.difference, pair.low, pair.high, verdict.covers_seeds, _p_values_of(pair))
                return found if pair.first == names[0] else _turned(found)
        return None
    for crossover in sizes.crossovers if sizes else ():
        for point in crossover.band if {crossover.first, crossover.second} == set(names) else ():
            if point.fraction == claim.fraction:
                found = _Pair(point.difference, point.low, point.high, point.covers_seeds, _p_values_of(point))
                return found if crossover.first == names[0] else _turned(found)
    return None


def _p_values_of(found: PairResult | BandPoint) -> tuple[float, float, float] | None:
    if found.p_better is None or found.p_not_worse is None or found.p_not_better is None:
        return None
    return found.p_better, found.p_not_worse, found.p_not_better


def _turned(pair: _Pair) -> _Pair:
    """The second method minus the first."""
    p_values = pair.p_values and (1.0 - pair.p_values[0], pair.p_values[2], pair.p_values[1])
    return _Pair(-pair.difference, -pair.high, -pair.low, pair.covers_seeds, p_values)


def _p_value(claim: ClaimSpec, pair: _Pair | None) -> float | None:
    """One-sided, against the opposite of the claim; `equal` needs both sides."""
    if pair is None or pair.p_values is None:
        return None
    better, not_worse, not_better = pair.p_values
    return {"better": better, "at_least": not_worse, "equal": max(not_worse, not_better)}[claim.kind]


def _by_interval(claim: ClaimSpec, pair: _Pair, margin: float) -> ClaimOutcome:
    """`equal`: within the margin. `at_least`: not worse by more than the margin."""
    low, high = pair.low, pair.high
    if claim.kind == "better":
        return "supported" if low > 0 else "contradicted" if high < 0 else "undecided"
    if claim.kind == "equal":
        inside, outside = -margin <= low and high <= margin, low > margin or high < -margin
        return "supported" if inside else "contradicted" if outside else "undecided"
    return "supported" if low >= -margin else "contradicted" if high < -margin else "undecided"


def _interval_of(pair: _Pair, margin: float) -> str:
    decimals = interval_decimals(pair.low, pair.high, margin, decimals=2)
    lower = round_outwards(pair.low, up=False, decimals=decimals)
    upper = round_outwards(pair.high, up=True, decimals=decimals)
    return f"difference {pair.difference:+.{decimals}f} points ({lower:+.{decimals}f} to {upper:+.{decimals}f})"
