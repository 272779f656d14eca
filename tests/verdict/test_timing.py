"""Costs of runs that shared the machine: as they are alone, token for token."""

from pathlib import Path

import pytest
from tuneoff.verdict.load import load_scores

from support.verdict_study import add_run
from tuneoff.results.run_record import Reading, Record, read_record, write_record
from tuneoff.verdict.costs import as_alone, timing_of


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


def test_every_phase_is_as_alone_but_memory(tmp_path: Path) -> None:
    timed = {"load": (2.0, None), "evaluate": (4.0, 40), "generate": (5.0, 50), "train": (3.0, 30)}
    shared = {"load": (9.0, None), "evaluate": (99.0, 400), "generate": (99.0, 500), "train": (99.0, 300)}
    records = []
    for seed, (phases, processes) in enumerate(((shared, 2), (timed, 1))):
        record = read_record(add_run(tmp_path, "lora", seed, {}))
        assert record.resources is not None
        base = record.resources.phases["train"]
        made = {
            name: base.model_copy(
                update={"wall_seconds": seconds, "tokens": tokens, "peak_memory_bytes": 1000 * processes}
            )
            for name, (seconds, tokens) in phases.items()
        }
        resources = record.resources.model_copy(update={"phases": made, "processes": processes})
        records.append(record.model_copy(update={"resources": resources}))
    alone = as_alone(*records).resources
    assert alone is not None
    assert {name: phase.wall_seconds for name, phase in alone.phases.items()} == pytest.approx(
        {"load": 2, "evaluate": 40, "generate": 50, "train": 30}
    )
    assert {phase.peak_memory_bytes for phase in alone.phases.values()} == {2000}


def test_times_without_a_timing_run_are_no_costs_in_silence(tmp_path: Path) -> None:
    for method in ("lora", "full"):
        run = add_run(tmp_path, method, 0, {"a": 1.0, "b": 2.0})
        changed(run, role="final", processes=2, tokens=1000, seconds=50.0, joules=900.0)
    timing = add_run(tmp_path, "lora", 7, {})
    changed(timing, role="timing", processes=1, tokens=100, seconds=3.0, joules=20.0)
    [note] = [note for note in load_scores(tmp_path)[0].notes if "shared the machine" in note]
    assert "Full fine-tuning" in note
    assert "LoRA" not in note
