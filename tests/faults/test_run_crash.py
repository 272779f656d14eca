"""A run dies, or its disk is full, at any file operation: states, texts, what it leaves for use, manifest, record."""

import errno
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.file_operations import Fault, Outcome, in_fork
from support.study_results import differences, results_of
from support.warm_study import states_at_each_step
from tuneoff import run
from tuneoff.methods import defaults
from tuneoff.results.run_dir import RunDir
from tuneoff.spec import DataSpec, GenerateSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec, TrainSpec

Choose = Callable[[list[int], int], list[int]]


@dataclass(frozen=True)
class Undisturbed:
    """A run in `folder`, which it can be carried out in again; what it leaves, and its number of operations."""

    spec: RunSpec
    folder: Path
    scratch: Path
    results: dict[str, bytes]
    operations: int

    def start(self, fault: Fault | None = None) -> Outcome:
        """Carry it out in a process of its own."""
        return in_fork(lambda: carry_out(self.spec, self.folder), self.folder, self.scratch, fault)


def carry_out(spec: RunSpec, folder: Path) -> None:
    warnings.simplefilter("ignore")  # as in the process of a run
    states_at_each_step("run")
    run.run(spec, folder, "id", "name")


@pytest.fixture(scope="module", params=["few_shot", "soft_prompt", "lora", "full"])
def undisturbed(
    request: pytest.FixtureRequest,
    full: bool,
    warm_flags: list[str],
    tiny_model: Callable[[str], Path],
    tiny_data: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Undisturbed:
    if not full and request.param != "lora":
        pytest.skip("one of the trials of `make faults`")
    spec = RunSpec(
        model=ModelSpec(name=str(tiny_model("llama")), precision="fp32"),
        prompt=PromptSpec(max_length=160),
        data=DataSpec.model_validate({f"{split}_file": str(path) for split, path in tiny_data.items()}),
        method=MethodSpec(name=request.param, hyperparameters=defaults(request.param)),
        train=TrainSpec(max_steps=4, eval_steps=1),
        generate=GenerateSpec(max_new_tokens=8, batch_size=3),
        reserved_tokens=20,
    )
    scratch, folder = tmp_path_factory.mktemp("scratch"), tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    start = in_fork(lambda: carry_out(spec, folder), folder, scratch)
    assert start.code == 0, start.output
    results = results_of(folder)
    assert RunDir(folder).read_record().status == "finished"
    shutil.rmtree(folder)
    return Undisturbed(spec, folder, scratch, results, len(start.operations))


@pytest.mark.parametrize("fault", ["death", "full disk"])
def test_the_same_run_ends_as_if_nothing_had_happened(undisturbed: Undisturbed, some_of: Choose, fault: str) -> None:
    number = errno.ENOSPC if fault == "full disk" else None
    folder = undisturbed.folder
    for at in some_of(list(range(1, undisturbed.operations + 1)), 1):
        folder.mkdir()
        first = undisturbed.start(Fault(at, number))
        where = f"{fault} at operation {at}, {first.operations[-1]}"
        if number is None:
            assert first.code == -9, where
        elif RunDir(folder).has_record() and (failure := RunDir(folder).read_record().failure):
            assert failure.message.startswith("the disk was full"), f"{where}: {failure.message}"
            assert str(folder) in failure.message, f"{where}: {failure.message}"
        again = undisturbed.start()
        assert again.code == 0, f"{where}: {again.output}"
        RunDir(folder).remove_leftovers()
        assert not differences(undisturbed.results, folder), f"{where}: {differences(undisturbed.results, folder)}"
        print(where, flush=True)
        shutil.rmtree(folder)
