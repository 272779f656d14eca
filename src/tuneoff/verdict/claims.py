"""Claims that stand in the study file, each judged: supported, contradicted or undecided.

Claims about quality are read off the simultaneous intervals of the verdict, all of them together right with its level;
those at a share of the data off the bands of `sizes`, which are a second procedure of the same level. Claims about
costs, losses and best epochs are read off the seeds: supported when all seeds say so, contradicted when none does.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tuneoff.errors import UserError
from tuneoff.methods import METHODS
from tuneoff.results.costs import COST_AXES
from tuneoff.results.run_record import Record
from tuneoff.results.summary import ClaimOutcome, DataSizeVerdict, JudgedClaim, Verdict
from tuneoff.spec.study import MARGIN, ClaimSpec
from tuneoff.text import join_words
from tuneoff.verdict.costs import as_alone, costs_of, lacks_timing, model_and_method, timing_runs

# Costs that company on the machine changes.
_OF_CLOCKS = ("train_seconds", "generate_seconds", "energy_joules", "tokens_per_second")


def judge_claims(
    claims: Sequence[ClaimSpec],
    records: Sequence[Record],
    verdict: Verdict,
    sizes: DataSizeVerdict | None,
    margin: float = MARGIN,
    *,
    seeds: int = 1,
) -> list[JudgedClaim]:
    """Judge the claims of one base model. `records` are its runs at every share of the data, timing runs too.

    What is read off the seeds stays undecided until all `seeds` that the study plans have finished."""
    timing = timing_runs(records)
    finished = [
        as_alone(record, timing.get(model_and_method(record)))
        for record in records
        if record.status == "finished" and record.spec.role == "final"
    ]
    shared = {record.spec.method.name for record in finished if lacks_timing(record, timing)}
    found = []
    for claim in claims:
        if claim.kind == "cost_order" and claim.cost in _OF_CLOCKS and shared & set(claim.methods):
            names = join_words(sorted(shared & set(claim.methods)))
            why = f"{claim.cost} of {names} was measured while runs shared the machine, and no timing run is there"
            found.append(JudgedClaim(text=claim.text, outcome="undecided", why=why))
        else:
            found.append(_judge(claim, finished, verdict, sizes, margin, seeds))
    return found


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
        if claim.kind == "cost_order" and claim.cost not in {axis.name for axis in COST_AXES}:
            known = ", ".join(axis.name for axis in COST_AXES)
            raise UserError(f"{file}: the claim {claim.text!r} is about the cost {claim.cost!r}; there are {known}")


def _judge(
    claim: ClaimSpec,
    records: Sequence[Record],
    verdict: Verdict,
    sizes: DataSizeVerdict | None,
    margin: float,
    planned: int,
) -> JudgedClaim:
    if claim.kind in ("better", "equal", "at_least"):
        interval = _interval(claim, verdict, sizes)
        if interval is None:
            return JudgedClaim(text=claim.text, outcome="undecided", why="no interval: runs are missing")
        difference, low, high, covers_seeds = interval
        found = _by_interval(claim, difference, low, high, margin)
        if covers_seeds:
            return found
        return found.model_copy(update={"why": f"{found.why}; one seed: of these trained models, not of the methods"})
    here = [record for record in records if record.spec.fraction == claim.fraction]
    if claim.kind == "best_early":
        return _early(claim, here, planned)
    return _by_order(claim, here, planned)


def _interval(
    claim: ClaimSpec, verdict: Verdict, sizes: DataSizeVerdict | None
) -> tuple[float, float, float, bool] | None:
    """Difference of the first method to the second, its interval, and whether that covers other seeds."""
    first, second = claim.methods
    if claim.fraction == 1:
        for pair in verdict.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair.difference, pair.low, pair.high, verdict.covers_seeds
            if (pair.first, pair.second) == (second, first):
                return -pair.difference, -pair.high, -pair.low, verdict.covers_seeds
        return None
    for crossover in sizes.crossovers if sizes else ():
        for point in crossover.band:
            if point.fraction != claim.fraction:
                continue
            if (crossover.first, crossover.second) == (first, second):
                return point.difference, point.low, point.high, point.covers_seeds
            if (crossover.first, crossover.second) == (second, first):
                return -point.difference, -point.high, -point.low, point.covers_seeds
    return None


def _by_interval(claim: ClaimSpec, difference: float, low: float, high: float, margin: float) -> JudgedClaim:
    """`equal`: within the margin. `at_least`: not worse by more than the margin."""
    if claim.kind == "better":
        outcome: ClaimOutcome = "supported" if low > 0 else "contradicted" if high < 0 else "undecided"
    elif claim.kind == "equal":
        inside, outside = -margin <= low and high <= margin, low > margin or high < -margin
        outcome = "supported" if inside else "contradicted" if outside else "undecided"
    else:
        outcome = "supported" if low >= -margin else "contradicted" if high < -margin else "undecided"
    return JudgedClaim(
        text=claim.text, outcome=outcome, why=f"difference {difference:+.2f} points ({low:+.2f} to {high:+.2f})"
    )


def _by_order(claim: ClaimSpec, records: Sequence[Record], planned: int) -> JudgedClaim:
    """The methods of the claim in the order that it states, the largest first, seed by seed."""
    values: dict[str, dict[int, float]] = {name: {} for name in claim.methods}
    for record in records:
        name = record.spec.method.name
        if name not in values:
            continue
        value = record.curve.best_validation_loss
        if claim.kind == "cost_order":
            value = costs_of([record])[str(claim.cost)].value
        if value is not None:
            values[name][record.spec.seed] = value
    varying = [found for name, found in values.items() if _seeded(name)]
    seeds = set.intersection(*(set(found) for found in varying)) if varying else {0}
    for name, found in values.items():
        if found and not _seeded(name):  # its one run stands for all seeds
            values[name] = dict.fromkeys(seeds, next(iter(found.values())))
    if not seeds or not all(values.values()):
        return JudgedClaim(text=claim.text, outcome="undecided", why="no seed in which all of them have a figure")
    orders = [[values[name][seed] for name in claim.methods] for seed in sorted(seeds)]
    shown = ", ".join(f"{name} {sum(found[seed] for seed in seeds) / len(seeds):.4g}" for name, found in values.items())
    why = f"means over {_counted(len(seeds), planned if varying else 1)}: {shown}"
    return JudgedClaim(text=claim.text, outcome=_of_all([_falls(order) for order in orders], planned, varying), why=why)


def _of_all(said: Sequence[bool], planned: int, varying: object = True) -> ClaimOutcome:
    """What all seeds say; undecided while planned ones are missing."""
    if varying and len(said) < planned:
        return "undecided"
    return "supported" if all(said) else "undecided" if any(said) else "contradicted"


def _counted(seeds: int, planned: int) -> str:
    if seeds < planned:
        return f"{seeds} of {planned} planned seeds"
    return f"{seeds} seed{'' if seeds == 1 else 's'}"


def _seeded(method: str) -> bool:
    return method not in METHODS or METHODS[method].seeded


def _falls(values: Sequence[float]) -> bool:
    return all(left > right for left, right in pairwise(values))


def _early(claim: ClaimSpec, records: Sequence[Record], planned: int) -> JudgedClaim:
    """Whether the lowest validation loss comes in the first half of the training."""
    (name,) = claim.methods
    shares: dict[int, float] = {}
    for record in records:
        best, end = record.curve.best_epoch, _end(record)
        if record.spec.method.name != name or best is None or end is None:
            continue
        if not any(point.epoch <= end / 2 for point in record.curve.validation):
            why = "no validation in the first half of the training; set eval_steps"
            return JudgedClaim(text=claim.text, outcome="undecided", why=why)
        shares[record.spec.seed] = best / end
    if not shares:
        return JudgedClaim(text=claim.text, outcome="undecided", why="no finished run with a curve")
    outcome = _of_all([share <= 0.5 for share in shares.values()], planned)
    words = ", ".join(f"seed {seed} at {100 * share:.0f} %" for seed, share in sorted(shares.items()))
    return JudgedClaim(text=claim.text, outcome=outcome, why=f"lowest validation loss: {words} of the training")


def _end(record: Record) -> float | None:
    """The epoch at which training was to end; None without a curve. For one that patience ended: what was planned."""
    if not record.curve.train:
        return None
    last, effort = record.curve.train[-1], record.spec.train
    if not record.curve.stopped_early:
        return last.epoch
    steps_an_epoch = last.step / last.epoch
    planned = max(effort.epochs * steps_an_epoch, effort.min_steps or 0)
    return max(last.step, min(planned, effort.max_steps or planned)) / steps_an_epoch
