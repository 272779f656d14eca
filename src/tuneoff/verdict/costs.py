"""What a run would have cost alone, when it shared the machine with others."""

from collections.abc import Iterable, Mapping

from tuneoff.results.run_record import PhaseResources, Reading, Record

Place = tuple[str, str]  # (model, method)


def timing_of(records: Iterable[Record]) -> dict[Place, Record]:
    """The finished timing runs: alone on the machine, with all its threads."""
    return {
        place(record): record
        for record in records
        if record.spec.role == "timing" and record.status == "finished" and record.resources is not None
    }


def place(record: Record) -> Place:
    """Base model and method of a run."""
    return record.spec.model.name, record.spec.method.name


def in_company(record: Record, timing: Mapping[Place, Record]) -> bool:
    """Whether the times of a run are no costs of a run alone: it shared the machine, and no timing run stands in."""
    return record.resources is not None and record.resources.processes > 1 and place(record) not in timing


def as_alone(record: Record, timing: Record | None) -> Record:
    """The record with time and energy of its phases as they are alone: its own tokens, each at what a token took in the
    timing run; loading, which counts none, as in the timing run. A record of a run that was alone, or that has no
    timing run, comes back as it is. Peaks of memory are those of the run's own process and stay."""
    if timing is None or timing.resources is None or record.resources is None or record.resources.processes == 1:
        return record
    measured = timing.resources.phases
    phases = {
        name: _scaled(phase, measured[name], same=name == "load") if name in measured else phase
        for name, phase in record.resources.phases.items()
    }
    return record.model_copy(update={"resources": record.resources.model_copy(update={"phases": phases})})


def _scaled(phase: PhaseResources, measured: PhaseResources, *, same: bool) -> PhaseResources:
    if not same and not (phase.tokens and measured.tokens):
        return phase
    times = 1.0 if same else (phase.tokens or 0) / (measured.tokens or 1)
    energy = measured.energy
    joules = None if energy.value is None else energy.value * times
    return phase.model_copy(
        update={
            "wall_seconds": measured.wall_seconds * times,
            "cpu_seconds": measured.cpu_seconds * times,
            "energy": Reading(value=joules, unit=energy.unit, source=energy.source, reason=energy.reason),
        }
    )
