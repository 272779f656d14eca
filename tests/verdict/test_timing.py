"""Costs of runs that shared the machine: as they are alone, token for token."""

from pathlib import Path

import pytest
from verdict_study import add_run

from tuneoff.record import Reading, Record, read_record, write_record
from tuneoff.verdict.load import load_scores
from tuneoff.verdict.timing import as_alone, timing_of


def changed(folder: Path, *, role: str, processes: int, tokens: int, seconds: float, joules: float) -> Record:
    """A run whose phases took `seconds` for `tokens` tokens."""
    record = read_record(folder)
    assert record.resources is not None
    phases = {
        name: phase.model_copy(
            update={
                "tokens": tokens,
                "wall_seconds": seconds,
                "energy": Reading(value=joules, unit="J", source="RAPL"),
            }
        )
        for name, phase in record.resources.phases.items()
    }
    resources = record.resources.model_copy(update={"phases": phases, "processes": processes})
    spec = record.spec.model_copy(update={"role": role})
    made = record.model_copy(update={"resources": resources, "spec": spec})
    write_record(folder, made)
    return made


def test_costs_are_those_of_the_timing_run(tmp_path: Path) -> None:
    run = add_run(tmp_path, "lora", 0, {"a": 1.0, "b": 2.0})
    timing = add_run(tmp_path, "lora", 7, {})
    changed(run, role="final", processes=2, tokens=1000, seconds=50.0, joules=900.0)
    changed(timing, role="timing", processes=1, tokens=100, seconds=3.0, joules=20.0)
    [scores] = load_scores(tmp_path)
    assert scores.costs["lora"]["train_seconds"].value == pytest.approx(30)
    assert scores.costs["lora"]["generate_seconds"].value == pytest.approx(30)
    assert scores.costs["lora"]["energy_joules"].value == pytest.approx(400)
    assert {seed for _, seed in scores.scores} == {0}  # a timing run is no seed


def test_a_run_that_was_alone_keeps_its_own_costs(tmp_path: Path) -> None:
    record = changed(add_run(tmp_path, "lora", 0, {}), role="final", processes=1, tokens=10, seconds=5.0, joules=1.0)
    timing = changed(add_run(tmp_path, "lora", 1, {}), role="timing", processes=1, tokens=10, seconds=9.0, joules=1.0)
    [(_, found)] = timing_of([record, timing]).items()
    assert found == timing
    assert as_alone(record, timing) == record
    assert as_alone(record, None) == record
