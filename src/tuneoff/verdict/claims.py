"""Claims of the study file, each judged by the records of the study.

Claims about quality are supported, contradicted or undecided (`tuneoff.verdict.quality_claims`).

Claims about measured costs, losses and best epochs compare the runs seed by seed, without an interval. A claim that
holds in all seeds or in no seed is reported as that, because few seeds agree by chance: an order of two equal methods
holds in all of three seeds in one study of eight. Costs that are counted, such as the size on disk, have no error, so
their order is supported or contradicted. A cost that was measured once for each method is undecided.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tuneoff.errors import UserError
from tuneoff.methods.rows import known_method
from tuneoff.results.cost_axes import COST_AXES
from tuneoff.results.run_record import Record
from tuneoff.results.summary import ClaimOutcome, DataSizeVerdict, JudgedClaim, Verdict
from tuneoff.spec.study import MARGIN, ClaimSpec
from tuneoff.text import join_words
from tuneoff.verdict.costs import (
    COSTS_OF_TIME,
    as_alone,
    costs_of,
    finished_timing_runs,
    is_timed_once,
    lacks_timing,
    model_and_method,
)
from tuneoff.verdict.quality_claims import QUALITY, judge_quality

# Counted, not measured: every run of a method has the same.
_COUNTED_COSTS = ("artefact_bytes", "labelled_examples", "trainable_parameters")


def judge_claims(
    claims: Sequence[ClaimSpec],
    records: Sequence[Record],
    verdict: Verdict,
    sizes: DataSizeVerdict | None,
    margin: float = MARGIN,
    *,
    seeds: int = 1,
) -> list[JudgedClaim]:
    """Judge the claims for one base model.

    Args:
        claims: claims of the study file.
        records: all runs of the model, at every fraction of the data, timing runs included.
        verdict: verdict at all the data.
        sizes: results at smaller fractions, if there are any.
        margin: difference that does not matter in practice, points.
        seeds: number of planned seeds. Claims that compare seeds are undecided until all of them have finished.
    """
    timing = finished_timing_runs(records)
    final = [record for record in records if record.status == "finished" and record.spec.role == "final"]
    alone = [as_alone(record, timing.get(model_and_method(record))) for record in final]
    concurrent = {record.spec.method.name for record in final if lacks_timing(record, timing)}
    about_scores = [claim for claim in claims if claim.kind in QUALITY]
    quality = iter(judge_quality(about_scores, verdict, sizes, margin))
    judged = []
    for claim in claims:
        if claim.kind in QUALITY:
            judged.append(next(quality))
            continue
        if claim.kind == "cost_order" and claim.cost not in {axis.name for axis in COST_AXES}:
            why = f"no cost is called {claim.cost}"  # in a study that was not started with this claim
            judged.append(JudgedClaim(text=claim.text, outcome="undecided", why=why))
            continue
        of_time = claim.kind == "cost_order" and claim.cost in COSTS_OF_TIME
        names = sorted(concurrent & set(claim.methods))
        if of_time and names:
            why = f"{claim.cost} of {join_words(names)} was measured during concurrent runs, and there is no timing run"
            judged.append(JudgedClaim(text=claim.text, outcome="undecided", why=why))
            continue
        once = {one.spec.method.name for one in final if of_time and is_timed_once(one, timing, str(claim.cost))}
        timed_once = len(once & set(claim.methods)) > 1
        at_fraction = [record for record in alone if record.spec.fraction == claim.fraction]
        if claim.kind == "best_early":
            judged.append(_judge_best_early(claim, at_fraction, seeds))
        else:
            judged.append(_judge_order(claim, at_fraction, seeds, timed_once=timed_once))
    return judged


def check_claims(claims: Sequence[ClaimSpec], methods: Sequence[str], fractions: Sequence[float], file: Path) -> None:
    """Raise `UserError` for a claim about a method, fraction or cost that the study does not have."""
    for claim in claims:
        for name in claim.methods:
            if name not in methods:
                raise UserError(
                    f"{file}: the claim {claim.text!r} is about {name}, which the study does not compare; add it to "
                    "methods or remove the claim"
                )
        if claim.fraction not in fractions:
            raise UserError(
                f"{file}: the claim {claim.text!r} is about the fraction {claim.fraction:g} of the data; "
                "add it to fractions"
            )
        if claim.kind == "cost_order" and claim.cost not in {axis.name for axis in COST_AXES}:
            known = ", ".join(axis.name for axis in COST_AXES)
            raise UserError(f"{file}: the claim {claim.text!r} is about the cost {claim.cost!r}; choose one of {known}")


def _judge_order(claim: ClaimSpec, records: Sequence[Record], planned: int, *, timed_once: bool) -> JudgedClaim:
    """Whether a cost or loss falls in the order of the claim's methods, for each seed.

    `timed_once`: the cost of several methods of the claim is that of one timing run each.
    """
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
        if found and not _seeded(name):  # its only run counts for every seed
            values[name] = dict.fromkeys(seeds, next(iter(found.values())))
    if not seeds or not all(values.values()):
        return JudgedClaim(text=claim.text, outcome="undecided", why="no seed for which all methods have a value")
    orders = [[values[name][seed] for name in claim.methods] for seed in sorted(seeds)]
    shown = ", ".join(f"{name} {sum(found[seed] for seed in seeds) / len(seeds):.4g}" for name, found in values.items())
    if timed_once:
        why = f"one timing run of each method, of unknown error: {shown}"
        return JudgedClaim(text=claim.text, outcome="undecided", why=why)
    needed = planned if varying else 1
    why = f"means over {_seed_count(len(seeds), needed)}: {shown}"
    outcome = _unanimous([_is_falling(order) for order in orders], needed)
    if claim.cost in _COUNTED_COSTS and len(orders) >= needed:
        outcome = "supported" if all(map(_is_falling, orders)) else "contradicted"
    return JudgedClaim(text=claim.text, outcome=outcome, why=why)


def _unanimous(holds: Sequence[bool], needed: int) -> ClaimOutcome:
    """Outcome of a claim that `holds` for some seeds; undecided with one seed, or with fewer than are `needed`."""
    if len(holds) < max(2, needed):
        return "undecided"
    return "in all seeds" if all(holds) else "undecided" if any(holds) else "in no seed"


def _seed_count(seeds: int, planned: int) -> str:
    if seeds < planned:
        return f"{seeds} of {planned} planned seeds"
    return f"{seeds} seed{'' if seeds == 1 else 's'}"


def _seeded(method: str) -> bool:
    kind = known_method(method)
    return kind is None or kind.seeded


def _is_falling(values: Sequence[float]) -> bool:
    return all(left > right for left, right in pairwise(values))


def _judge_best_early(claim: ClaimSpec, records: Sequence[Record], planned: int) -> JudgedClaim:
    """Whether the lowest validation loss is in the first half of the training."""
    (name,) = claim.methods
    positions: dict[int, float] = {}  # seed -> fraction of the training
    for record in records:
        best, end = record.curve.best_epoch, _planned_end(record)
        if record.spec.method.name != name or best is None or end is None:
            continue
        if not any(point.epoch <= end / 2 for point in record.curve.validation):
            why = "no validation in the first half of the training; set eval_steps"
            return JudgedClaim(text=claim.text, outcome="undecided", why=why)
        positions[record.spec.seed] = best / end
    if not positions:
        return JudgedClaim(text=claim.text, outcome="undecided", why="no finished run with a training curve")
    outcome = _unanimous([position <= 0.5 for position in positions.values()], planned)
    by_seed = ", ".join(f"seed {seed} at {100 * position:.0f} %" for seed, position in sorted(positions.items()))
    return JudgedClaim(text=claim.text, outcome=outcome, why=f"lowest validation loss: {by_seed} of the training")


def _planned_end(record: Record) -> float | None:
    """Planned last epoch of the training, also if it stopped early; None without a training curve."""
    if not record.curve.train:
        return None
    last, effort = record.curve.train[-1], record.spec.train
    if not record.curve.stopped_early:
        return last.epoch
    steps_an_epoch = last.step / last.epoch
    planned = max(effort.epochs * steps_an_epoch, effort.min_steps or 0)
    return max(last.step, min(planned, effort.max_steps or planned)) / steps_an_epoch
