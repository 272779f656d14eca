"""Outputs from which nothing can be learned: all empty, one text for every document, the same texts by two methods.

Pure functions of records and outputs. What they find precedes the verdict.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence

from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.run_record import Record

# Fewer outputs may be equal by chance.
_FEWEST_OUTPUTS = 3
# Smallest fall of the validation loss that counts as learning, nats per token.
_SMALLEST_FALL = 1e-4


def identical_methods(runs: Mapping[tuple[str, int], Hashable]) -> tuple[tuple[str, ...], ...]:
    """Groups of two or more methods whose texts are equal for every document and seed, in the order of `runs`.

    `runs` maps (method, seed) to a fingerprint of all outputs, false if there are none. The single run of a method is
    compared with all runs of another.
    """
    by_method: dict[str, dict[int, Hashable]] = {}
    for (method, seed), outputs in runs.items():
        if outputs:
            by_method.setdefault(method, {})[seed] = outputs
    groups: list[list[str]] = []
    for method, own in by_method.items():
        for group in groups:
            if _equal(by_method[group[0]], own):
                group.append(method)
                break
        else:
            groups.append([method])
    return tuple(tuple(group) for group in groups if len(group) > 1)


def _equal(one: Mapping[int, Hashable], other: Mapping[int, Hashable]) -> bool:
    seeds = one.keys() & other.keys()
    if len(one) == 1 or len(other) == 1:
        return all(first == second for first in one.values() for second in other.values())
    return bool(seeds) and all(one[seed] == other[seed] for seed in seeds)


def is_empty(outputs: RunOutputs) -> bool:
    """Whether every output is empty, by its score: the texts may not be kept."""
    empty = outputs.columns.get("empty")
    return empty is not None and bool((empty == 1).all())


def is_constant(outputs: RunOutputs) -> bool:
    """Whether every output is one and the same text, of three or more."""
    if len(outputs) < _FEWEST_OUTPUTS or not outputs.has_text.all():
        return False
    return bool((outputs.digests == outputs.digests[0]).all())


def says_nothing(runs: Sequence[RunOutputs]) -> str | None:
    """Why the outputs of all runs together measure nothing, as a sentence; None if they do."""
    scored = [outputs for outputs in runs if len(outputs)]
    if scored and all(map(is_empty, scored)):
        return "Nothing was measured: every output of every method is empty. Read the prompt, and try --template plain."
    if scored and all(map(is_constant, scored)):
        return (
            "Nothing was measured: every method writes one and the same text for all documents. "
            "Read the outputs and the prompt in the report."
        )
    return None


def ignores_documents(outputs: RunOutputs) -> bool:
    """Whether a run wrote nothing, or the same text for every document."""
    return is_empty(outputs) or is_constant(outputs)


def useless_method(title: str, runs: Sequence[RunOutputs]) -> str | None:
    """Why the method with the highest mean is of no use, as sentences; None if one of its `runs` is."""
    if not runs or not all(map(ignores_documents, runs)):
        return None
    wrote = "writes nothing" if all(map(is_empty, runs)) else "writes one and the same text"
    return (
        f"{title} has the highest mean, but {wrote} for every document. Read its outputs and the references in the "
        "report."
    )


def nothing_learned(records: Iterable[Record]) -> str | None:
    """Why no trained method of one base model learned anything, as sentences; None if one did or it is unknown."""
    finished = [record for record in records if record.status == "finished" and record.spec.is_main]
    trained = [record for record in finished if record.curve.train]
    untrained = next((record for record in finished if record.spec.method.name == "zero_shot"), None)
    start = untrained.curve.best_validation_loss if untrained else None
    if not trained or any(_may_have_learned(record, start) for record in trained):
        return None
    before = f" ({start:.3f} nats per token)" if start is not None else ""
    return (
        f"No trained method learned anything. No validation loss fell below that of the untrained model{before}. "
        "Train longer (--epochs), or search for a learning rate (--trials 3)."
    )


def _may_have_learned(record: Record, start: float | None) -> bool:
    if record.details.moved_share == 0:
        return False
    best, validation = record.curve.best_validation_loss, record.curve.validation
    if start is None and validation and validation[0].step == 0:
        start = validation[0].loss
    return start is None or best is None or best < start - _SMALLEST_FALL
