"""Claims that were written down before the study, each judged: supported, contradicted or undecided.

Claims about quality are read off the simultaneous intervals of the verdict (at a share of the data off the bands of
`sizes`), so all of them together are right with the level of that one procedure. Claims about costs, losses and best
epochs are read off the seeds: supported when all seeds say so, contradicted when all say the contrary.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

from tuneoff.errors import UserError
from tuneoff.record import Record
from tuneoff.spec.run import Frozen
from tuneoff.spec.study import ClaimSpec
from tuneoff.verdict.decide import MARGIN
from tuneoff.verdict.load import load_costs
from tuneoff.verdict.outcome import Verdict
from tuneoff.verdict.scores import AXES
from tuneoff.verdict.sizes import SizeVerdict
from tuneoff.verdict.timing import as_alone, place, timing_of

Outcome = Literal["supported", "contradicted", "undecided"]


class Judged(Frozen):
    """A claim and what the study says about it. `why` holds the numbers."""

    text: str
    outcome: Outcome
    why: str


def judge_claims(
    claims: Sequence[ClaimSpec],
    records: Sequence[Record],
    verdict: Verdict,
    sizes: SizeVerdict | None,
    margin: float = MARGIN,
) -> list[Judged]:
    """Judge the claims of one base model. `records` are its runs at every share of the data, timing runs too."""
    timing = timing_of(records)
    finished = [
        as_alone(record, timing.get(place(record)))
        for record in records
        if record.status == "finished" and record.spec.role == "final"
    ]
    return [_judge(claim, finished, verdict, sizes, margin) for claim in claims]


def check_claims(claims: Sequence[ClaimSpec], methods: Sequence[str], fractions: Sequence[float], file: Path) -> None:
    """Raise `UserError` for a claim about a method, share or cost that the study does not have."""
    for claim in claims:
        for name in claim.methods:
            if name not in methods:
                raise UserError(f"{file}: the claim {claim.text!r} is about {name}, which the study does not compare")
        if claim.fraction not in fractions:
            raise UserError(
                f"{file}: the claim {claim.text!r} is about the share {claim.fraction:g}; add it to fractions"
            )
        if claim.kind == "cost_order" and claim.cost not in {axis.name for axis in AXES}:
            known = ", ".join(axis.name for axis in AXES)
            raise UserError(f"{file}: the claim {claim.text!r} is about the cost {claim.cost!r}; there are {known}")


def _judge(
    claim: ClaimSpec, records: Sequence[Record], verdict: Verdict, sizes: SizeVerdict | None, margin: float
) -> Judged:
    if claim.kind in ("better", "equal", "at_least"):
        interval = _interval(claim, verdict, sizes)
        if interval is None:
            return Judged(text=claim.text, outcome="undecided", why="no interval: runs are missing")
        return _by_interval(claim, *interval, margin)
    here = [record for record in records if record.spec.fraction == claim.fraction]
    if claim.kind == "best_early":
        return _early(claim, here)
    return _by_order(claim, here)


def _interval(claim: ClaimSpec, verdict: Verdict, sizes: SizeVerdict | None) -> tuple[float, float, float] | None:
    """Difference of the first method to the second, and its interval."""
    first, second = claim.methods
    if claim.fraction == 1:
        for pair in verdict.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair.difference, pair.low, pair.high
            if (pair.first, pair.second) == (second, first):
                return -pair.difference, -pair.high, -pair.low
        return None
    for crossover in sizes.crossovers if sizes else ():
        for point in crossover.band:
            if point.fraction != claim.fraction:
                continue
            if (crossover.first, crossover.second) == (first, second):
                return point.difference, point.low, point.high
            if (crossover.first, crossover.second) == (second, first):
                return -point.difference, -point.high, -point.low
    return None


def _by_interval(claim: ClaimSpec, difference: float, low: float, high: float, margin: float) -> Judged:
    """`equal`: within the margin. `at_least`: not worse by more than the margin."""
    if claim.kind == "better":
        outcome: Outcome = "supported" if low > 0 else "contradicted" if high < 0 else "undecided"
    elif claim.kind == "equal":
        inside, outside = -margin <= low and high <= margin, low > margin or high < -margin
        outcome = "supported" if inside else "contradicted" if outside else "undecided"
    else:
        outcome = "supported" if low >= -margin else "contradicted" if high < -margin else "undecided"
    return Judged(
        text=claim.text, outcome=outcome, why=f"difference {difference:+.2f} points ({low:+.2f} to {high:+.2f})"
    )


def _by_order(claim: ClaimSpec, records: Sequence[Record]) -> Judged:
    """The methods of the claim in the order that it states, the largest first, seed by seed."""
    values: dict[str, dict[int, float]] = {name: {} for name in claim.methods}
    for record in records:
        name = record.spec.method.name
        if name not in values:
            continue
        value = record.curve.best_validation_loss
        if claim.kind == "cost_order":
            value = load_costs([record])[str(claim.cost)].value
        if value is not None:
            values[name][record.spec.seed] = value
    seeds = set.intersection(*(set(found) for found in values.values()))
    if not seeds:
        return Judged(text=claim.text, outcome="undecided", why="no seed in which all of them have a figure")
    orders = [[values[name][seed] for name in claim.methods] for seed in sorted(seeds)]
    shown = ", ".join(f"{name} {sum(found[seed] for seed in seeds) / len(seeds):.4g}" for name, found in values.items())
    if all(_falls(order) for order in orders):
        outcome: Outcome = "supported"
    else:
        outcome = "undecided" if any(_falls(order) for order in orders) else "contradicted"
    return Judged(text=claim.text, outcome=outcome, why=f"means over {len(seeds)} seeds: {shown}")


def _falls(values: Sequence[float]) -> bool:
    return all(left > right for left, right in pairwise(values))


def _early(claim: ClaimSpec, records: Sequence[Record]) -> Judged:
    (name,) = claim.methods
    shares: Mapping[int, float] = {
        record.spec.seed: record.curve.best_epoch / record.curve.train[-1].epoch
        for record in records
        if record.spec.method.name == name and record.curve.best_epoch is not None and record.curve.train
    }
    if not shares:
        return Judged(text=claim.text, outcome="undecided", why="no finished run with a curve")
    early = [share <= 0.5 for share in shares.values()]
    outcome: Outcome = "supported" if all(early) else "undecided" if any(early) else "contradicted"
    words = ", ".join(f"seed {seed} at {share:.0%}" for seed, share in sorted(shares.items()))
    return Judged(text=claim.text, outcome=outcome, why=f"lowest validation loss: {words} of the training")
