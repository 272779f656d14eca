"""Memory runs out at any operation of a run: it goes on in smaller parts with the same losses, or fails and says so."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from support.study_results import differences, results_of
from tuneoff import run
from tuneoff.methods import defaults
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Record
from tuneoff.spec import DataSpec, GenerateSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec, TrainSpec

ERRORS: list[Callable[[], Exception]] = [
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    lambda: MemoryError(),
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
]


class OperationsOfTorch(TorchDispatchMode):
    """Counts operations of torch, those of backward passes too, and raises `error` at the one with the number `at`."""

    def __init__(self, at: int = 0, error: Callable[[], Exception] = MemoryError) -> None:
        super().__init__()
        self.count, self._at, self._error = 0, at, error

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        if self.count == self._at:
            raise self._error()
        return func(*args, **(kwargs or {}))


def spec_of(name: str, model: Path, data: dict[str, Path]) -> RunSpec:
    return RunSpec(
        model=ModelSpec(name=str(model), precision="fp32"),
        prompt=PromptSpec(max_length=160),
        data=DataSpec.model_validate({f"{split}_file": str(path) for split, path in data.items()}),
        method=MethodSpec(name=name, hyperparameters=defaults(name)),
        train=TrainSpec(max_steps=4, eval_steps=2),
        generate=GenerateSpec(max_new_tokens=8, batch_size=4),
        reserved_tokens=20,
    )


def losses(record: Record) -> list[float]:
    curve = record.curve
    return [*(point.loss for point in curve.train), *(point.loss for point in curve.validation)]


@pytest.mark.parametrize("name", ["zero_shot", "soft_prompt", "lora", "full"])
def test_memory_that_runs_out_changes_no_result(name, full, seed, tiny_model, tiny_data, tmp_path, monkeypatch):
    if not full and name != "lora":
        pytest.skip("one of the trials of `make faults`")
    spec, draw = spec_of(name, tiny_model("llama"), tiny_data), random.Random(f"{name} {seed}")
    folder = tmp_path / "run"
    with OperationsOfTorch() as operations:
        whole = run.run(spec, folder, "id", "name")
    assert whole.status == "finished"
    results, texts = results_of(folder), RunDir(folder).read_predictions()
    outcomes = Counter[str]()
    for trial in range(20 if full else 1):
        shutil.rmtree(folder)
        at, error = draw.randint(1, operations.count), ERRORS[trial % len(ERRORS)]
        where = f"trial {trial}, operation {at} of {operations.count}, {error()!r}"
        with OperationsOfTorch(at, error):
            record = run.run(spec, folder, "id", "name")
        if record.status == "finished":
            assert any("memory ran out during" in note for note in record.notes), where
            assert losses(record) == pytest.approx(losses(whole), rel=1e-6, abs=1e-6), where
            assert RunDir(folder).read_predictions() == texts, where
            outcomes["in parts"] += 1
            print(where, flush=True)
            continue
        assert record.status == "failed", f"{where}: {record}"
        assert record.failure is not None
        assert record.failure.message.startswith("memory ran out in phase"), f"{where}: {record.failure.message}"
        outcomes[record.failure.message.split(";")[0]] += 1
        again = run.run(spec, folder, "id", "name")
        assert again.status == "finished", f"{where}: {again.failure}"
        assert not differences(results, folder), f"{where}: {differences(results, folder)}"
        print(where, flush=True)
    print(f"{name}: {dict(outcomes)}")
