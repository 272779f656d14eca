"""Costs of runs on every axis, as they are when a run is alone on its machine.

Concurrent runs slow each other down. A study with concurrent runs therefore measures each method once more in a timing
run, alone and with all threads of the machine; time and energy of the other runs are scaled from it, token by token.
"""

from collections.abc import Iterable, Mapping, Sequence

from tuneoff.results.cost_axes import COST_AXES, Cost
from tuneoff.results.run_record import MOST_COUNT, PhaseResources, Reading, Record

ModelMethod = tuple[str, str]
# Costs that change when other runs share the machine.
COSTS_OF_TIME = ("train_seconds", "generate_seconds", "energy_joules", "tokens_per_second")


def model_and_method(record: Record) -> ModelMethod:
    """Names of the base model and the method of a run."""
    return record.spec.model.name, record.spec.method.name


def finished_timing_runs(records: Iterable[Record]) -> dict[ModelMethod, Record]:
    """The finished timing runs, by model and method."""
    return {
        model_and_method(record): record
        for record in records
        if record.spec.role == "timing" and record.status == "finished" and record.resources is not None
    }


def concurrent_runs(record: Record) -> int:
    """Runs on the machine while this one was measured, including this one."""
    return record.resources.processes if record.resources else 1


def lacks_timing(record: Record, timing: Mapping[ModelMethod, Record]) -> bool:
    """Whether the run shared the machine and no timing run replaces its times."""
    return concurrent_runs(record) > 1 and model_and_method(record) not in timing


def is_timed_once(record: Record, timing: Mapping[ModelMethod, Record], cost: str) -> bool:
    """Whether a cost of time of the run is computed from the only timing run of its method.

    All seeds of the method then share that one measurement, and nothing shows how much another would differ. What a
    method without training spends on training is zero, which needs no measurement.
    """
    if cost in ("train_seconds", "tokens_per_second") and record.trainable_parameters == 0:
        return False
    return concurrent_runs(record) > 1 and model_and_method(record) in timing


def as_alone(record: Record, timing: Record | None) -> Record:
    """The record with the time and energy that its phases take without concurrent runs, and with nothing in the cache.

    A phase costs its own number of tokens times what a token cost in the timing run, which reused nothing. Loading
    counts no tokens and costs what it cost there. Memory peaks belong to the run's own process and stay. Without a
    timing run the record of a run that was not alone is returned unchanged.
    """
    if record.resources is None or record.resources.processes == 1:
        return _without_reuse(record)
    if timing is None or timing.resources is None:
        return record
    measured = timing.resources.phases
    phases = {
        name: _scaled(phase, measured[name], same=name == "load") if name in measured else phase
        for name, phase in record.resources.phases.items()
    }
    return record.model_copy(update={"resources": record.resources.model_copy(update={"phases": phases})})


def _without_reuse(record: Record) -> Record:
    """The record with the time and energy that its training takes if it computes the states of frozen blocks itself."""
    reused, resources = record.details.reused_seconds, record.resources
    if not reused or resources is None or not (phase := resources.phases.get("train")) or not phase.wall_seconds:
        return record
    phases = {**resources.phases, "train": _times(phase, 1 + reused / phase.wall_seconds)}
    return record.model_copy(update={"resources": resources.model_copy(update={"phases": phases})})


def _scaled(phase: PhaseResources, measured: PhaseResources, *, same: bool) -> PhaseResources:
    if not same and not (phase.tokens and measured.tokens):
        return phase
    took = _times(measured, 1.0 if same else (phase.tokens or 0) / (measured.tokens or 1))
    new = {"wall_seconds": took.wall_seconds, "cpu_seconds": took.cpu_seconds, "energy": took.energy}
    return phase.model_copy(update=new)


def _times(phase: PhaseResources, factor: float) -> PhaseResources:
    """The phase with `factor` times its time and energy, which stay numbers that a record can hold."""

    def scaled(value: float) -> float:
        return min(value * factor, MOST_COUNT) if value else 0.0

    energy = phase.energy
    joules = None if energy.value is None else scaled(energy.value)
    return phase.model_copy(
        update={
            "wall_seconds": scaled(phase.wall_seconds),
            "cpu_seconds": scaled(phase.cpu_seconds),
            "energy": Reading(value=joules, unit=energy.unit, source=energy.source, reason=energy.reason),
        }
    )


def costs_of(records: Sequence[Record]) -> dict[str, Cost]:
    """Costs of finished runs by the name of their axis, as means over the runs. `records` must not be empty."""
    readers = {
        "train_seconds": _train_seconds,
        "peak_memory_bytes": _peak_memory,
        "artefact_bytes": _artefact_bytes,
        "generate_seconds": _generate_seconds,
        "energy_joules": _energy,
        "labelled_examples": _labelled_examples,
        "trainable_parameters": _trainable_parameters,
        "tokens_per_second": _tokens_per_second,
    }
    return {axis.name: _mean_cost([readers[axis.name](record) for record in records]) for axis in COST_AXES}


def _mean_cost(costs: Sequence[Cost]) -> Cost:
    values = [cost.value for cost in costs if cost.value is not None]
    if len(values) < len(costs):
        reasons = dict.fromkeys(cost.reason for cost in costs if cost.value is None and cost.reason)
        return _unknown("; ".join(reasons) or "not measured")
    return Cost(value=sum(values) / len(values))


def _unknown(reason: str) -> Cost:
    return Cost(value=None, reason=reason)


def _phases(record: Record) -> dict[str, PhaseResources]:
    return record.resources.phases if record.resources else {}


def _train_seconds(record: Record) -> Cost:
    if record.trainable_parameters == 0:
        return Cost(value=0.0)
    phase = _phases(record).get("train")
    return Cost(value=phase.wall_seconds) if phase else _unknown("the record has no training phase")


def _generate_seconds(record: Record) -> Cost:
    phase = _phases(record).get("generate")
    return Cost(value=phase.wall_seconds) if phase else _unknown("the record has no generation phase")


def _peak_memory(record: Record) -> Cost:
    if record.resources is None:
        return _unknown("the record has no resources")
    return Cost(value=record.resources.limiting_peak_bytes)


def _artefact_bytes(record: Record) -> Cost:
    return Cost(value=float(record.artefact.bytes)) if record.artefact else _unknown("the record has no artefact")


def _energy(record: Record) -> Cost:
    """Training and generation together."""
    readings = [phase.energy for name, phase in _phases(record).items() if name in ("train", "generate")]
    if not readings:
        return _unknown("the record has no resources")
    total = 0.0
    for reading in readings:
        if reading.value is None:
            return _unknown(reading.reason or "not measured")
        total += reading.value
    return Cost(value=total)


def _labelled_examples(record: Record) -> Cost:
    """Training examples that the run read. Validation examples, which choose the settings, are the same for all."""
    if record.trainable_parameters == 0:
        return Cost(value=float(len(record.details.shots or ())))
    available = record.details.train_examples
    if available is None:
        return _unknown("the record does not count the training examples")
    return Cost(value=float(min(available, record.curve.steps * record.spec.train.batch_size)))


def _trainable_parameters(record: Record) -> Cost:
    if record.trainable_parameters is None:
        return _unknown("the record does not count the trainable parameters")
    return Cost(value=float(record.trainable_parameters))


def _tokens_per_second(record: Record) -> Cost:
    """Training tokens per second, without padding."""
    phase = _phases(record).get("train")
    if phase is None or not phase.tokens or phase.wall_seconds <= 0:
        return _unknown("nothing was trained")
    return Cost(value=min(phase.tokens / phase.wall_seconds, MOST_COUNT))
