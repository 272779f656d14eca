"""Costs of runs that shared the machine: as they are alone, token for token."""

from pathlib import Path

import pytest

from support.verdict_study import add_run, edit_record, load
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Reading, Record, TrainPoint
from tuneoff.verdict.costs import as_alone, costs_of, finished_timing_runs
from tuneoff.verdict.scores import load_scores


def changed(folder: RunDir, *, role: str, processes: int, tokens: int, seconds: float, joules: float) -> Record:
    """A run whose phases took `seconds` for `tokens` tokens."""
    record = folder.read_record()
    assert record.resources is not None
    energy = Reading(value=joules, unit="J", source="RAPL")
    phases = {
        name: phase.model_copy(update={"tokens": tokens, "wall_seconds": seconds, "energy": energy})
        for name, phase in record.resources.phases.items()
    }
    resources = record.resources.model_copy(update={"phases": phases, "processes": processes})
    return edit_record(folder, resources=resources, spec=record.spec.model_copy(update={"role": role}))


def test_costs_are_those_of_the_timing_run(tmp_path: Path) -> None:
    run = add_run(tmp_path, "lora", 0, {"a": 1.0, "b": 2.0})
    timing = add_run(tmp_path, "lora", 7, {})
    changed(run, role="final", processes=2, tokens=1000, seconds=50.0, joules=900.0)
    changed(timing, role="timing", processes=1, tokens=100, seconds=3.0, joules=20.0)
    [scores] = load_scores(load(tmp_path))
    assert scores.costs["lora"]["train_seconds"].value == pytest.approx(30)
    assert scores.costs["lora"]["generate_seconds"].value == pytest.approx(30)
    assert scores.costs["lora"]["energy_joules"].value == pytest.approx(400)
    assert {seed for _, seed in scores.scores} == {0}  # a timing run is no seed


def test_a_run_that_was_alone_keeps_its_own_costs(tmp_path: Path) -> None:
    record = changed(add_run(tmp_path, "lora", 0, {}), role="final", processes=1, tokens=10, seconds=5.0, joules=1.0)
    timing = changed(add_run(tmp_path, "lora", 1, {}), role="timing", processes=1, tokens=10, seconds=9.0, joules=1.0)
    [(_, found)] = finished_timing_runs([record, timing]).items()
    assert found == timing
    assert as_alone(record, timing) == record
    assert as_alone(record, None) == record


def test_a_training_that_reused_states_costs_what_computing_them_took(tmp_path: Path) -> None:
    run = add_run(tmp_path, "last_layers", 0, {})
    record = changed(run, role="final", processes=1, tokens=100, seconds=5.0, joules=1.0)
    record = edit_record(run, details=record.details.model_copy(update={"reused_seconds": 15.0}))
    costs = costs_of([as_alone(record, None)])
    assert costs["train_seconds"].value == pytest.approx(20)
    assert costs["energy_joules"].value == pytest.approx(4 + 1)  # training and generation
    assert costs["generate_seconds"].value == pytest.approx(5)


def test_every_phase_is_as_alone_but_memory(tmp_path: Path) -> None:
    timed = {"load": (2.0, None), "evaluate": (4.0, 40), "generate": (5.0, 50), "train": (3.0, 30)}
    shared = {"load": (9.0, None), "evaluate": (99.0, 400), "generate": (99.0, 500), "train": (99.0, 300)}
    records = []
    for seed, (phases, processes) in enumerate(((shared, 2), (timed, 1))):
        record = add_run(tmp_path, "lora", seed, {}).read_record()
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


def test_times_without_a_timing_run_are_reported(tmp_path: Path) -> None:
    for method in ("lora", "full"):
        run = add_run(tmp_path, method, 0, {"a": 1.0, "b": 2.0})
        changed(run, role="final", processes=2, tokens=1000, seconds=50.0, joules=900.0)
    timing = add_run(tmp_path, "lora", 7, {})
    changed(timing, role="timing", processes=1, tokens=100, seconds=3.0, joules=20.0)
    [note] = [note for note in load_scores(load(tmp_path))[0].notes if "concurrent runs" in note]
    assert "Full fine-tuning" in note
    assert "LoRA" not in note


def test_memory_is_that_which_is_exhausted_first(tmp_path: Path) -> None:
    record = add_run(tmp_path, "lora", 0, {"a": 1.0}).read_record()
    assert costs_of([record])["peak_memory_bytes"].value == 2000
    assert record.resources is not None
    measured = {
        name: phase.model_copy(update={"accelerator_peak_bytes": Reading(value=9e9, unit="B", source="a card")})
        for name, phase in record.resources.phases.items()
    }
    card = record.model_copy(update={"resources": record.resources.model_copy(update={"phases": measured})})
    assert costs_of([card])["peak_memory_bytes"].value == 9e9


def test_energy_adds_training_and_generation(tmp_path: Path) -> None:
    run = add_run(tmp_path, "lora", 0, {"a": 1.0}, energy=Reading(value=70.0, unit="J", source="RAPL"))
    assert costs_of([run.read_record()])["energy_joules"].value == pytest.approx(140)


def test_labelled_examples_are_those_that_were_read(tmp_path: Path) -> None:
    points = tuple(
        TrainPoint(step=step, epoch=1, seconds=0, loss=1, learning_rate=1, grad_norm=1, tokens=1) for step in (1, 2, 3)
    )
    read = {}
    for method, available in (("lora", 100), ("full", 20)):
        run = add_run(tmp_path, method, 0, {"a": 1.0})
        curve = run.read_record().curve.model_copy(update={"train": points})
        record = edit_record(run, details={"train_examples": available}, curve=curve)
        read[method] = costs_of([record])["labelled_examples"].value
    assert read == {"lora": 24, "full": 20}  # three batches of 8, or all that there are
    shots = edit_record(add_run(tmp_path, "zero_shot", 0, {"a": 1.0}), details={"shots": ["a", "b"]})
    assert costs_of([shots])["labelled_examples"].value == 2


def test_a_cost_that_one_run_lacks_is_unknown_with_the_reason(tmp_path: Path) -> None:
    lora = add_run(tmp_path, "lora", 0, {"a": 1.0}).read_record()
    zero_shot = add_run(tmp_path, "zero_shot", 0, {"a": 1.0}).read_record()
    costs = costs_of([lora, zero_shot])
    assert (costs["tokens_per_second"].value, costs["tokens_per_second"].reason) == (None, "nothing was trained")
    assert costs["trainable_parameters"].value == 5
    assert costs["energy_joules"].reason == "no counter"


def test_costs_of_odd_numbers_are_numbers(tmp_path: Path) -> None:
    odd = changed(add_run(tmp_path, "lora", 0, {}), role="final", processes=2, tokens=10**18, seconds=1, joules=1e18)
    timed = changed(add_run(tmp_path, "lora", 1, {}), role="timing", processes=1, tokens=1, seconds=1e18, joules=1e18)
    assert costs_of([as_alone(odd, timed)])["energy_joules"].value == 2e18  # training and generation
    quick = add_run(tmp_path, "lora", 2, {})
    alone = changed(quick, role="final", processes=1, tokens=10**18, seconds=5e-324, joules=0)
    assert costs_of([alone])["tokens_per_second"].value == 1e18
    reused = edit_record(quick, details=alone.details.model_copy(update={"reused_seconds": 1e18}))
    assert costs_of([as_alone(reused, None)])["energy_joules"].value == 0
