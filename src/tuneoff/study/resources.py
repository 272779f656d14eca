"""Whether memory and disk of this machine can be enough for a study, from the sizes that the models' headers give.

The figures are lower bounds without activations: a plan is only refused if it is hopeless.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from tuneoff import models
from tuneoff.errors import UserError
from tuneoff.memory_limits import total_memory
from tuneoff.model_folder import inspect_folder
from tuneoff.profiling import usable_cores
from tuneoff.profiling.machine import may_have_accelerator
from tuneoff.spec import ModelSpec, StudySpec
from tuneoff.spec.row_names import method_of
from tuneoff.study.planner import PlannedRun

WHOLE_MODEL = "full"  # the method whose gradients and optimizer state cover every parameter
# Weights, gradients and two moments in fp32; with bf16 weights it is more, because the masters are fp32 too.
_TRAINED_BYTES = 16
_FROZEN_BYTES = {"fp32": 4, "bf16": 2, "auto": 2}
_STORED_BYTES = 2  # of a parameter in an artefact, at least


def trains_whole_model(row: str) -> bool:
    """Whether a row is of the method that trains every parameter."""
    return method_of(row) == WHOLE_MODEL


def count_parameters(spec: ModelSpec) -> int:
    """Parameters of a model, from the headers of its files."""
    return inspect_folder(models.weights_folder(spec), trust_remote_code=spec.trust_remote_code).parameters


def least_memory(spec: ModelSpec, parameters: int, method: str) -> int:
    """Bytes of memory that a run needs at least."""
    return parameters * (_TRAINED_BYTES if trains_whole_model(method) else _FROZEN_BYTES[spec.precision])


def least_disk(parameters: int, runs: int) -> int:
    """Bytes of disk that the artefacts of `runs` fully tuned models need at least."""
    return parameters * _STORED_BYTES * runs


def check_memory(spec: ModelSpec, parameters: int, method: str, there: int, processes: int = 1) -> None:
    """Raise `UserError` if a run needs more than all the memory of the machine, which has `there` bytes."""
    need = least_memory(spec, parameters, method) * processes
    if need > there:
        raise UserError(
            f"{method} on {spec.name}: needs at least {gigabytes(need)} of memory for {parameters / 1e6:,.0f} M "
            f"parameters, and this machine has {gigabytes(there)}; leave the method out, or give a smaller --model"
        )


def check_disk(parameters: int, runs: int, folder: Path, model: str) -> None:
    """Raise `UserError` if the artefacts of fully tuned models do not fit on the disk of the study's folder."""
    need, free = least_disk(parameters, runs), free_disk(folder)
    if need > free:
        raise UserError(
            f"{folder}: {runs} fully tuned models of {model} need at least {gigabytes(need)} of disk, and "
            f"{gigabytes(free)} are free there; choose another --output, or leave out {WHOLE_MODEL}"
        )


def check_resources(study: StudySpec, missing: Iterable[PlannedRun], folder: Path) -> None:
    """Raise `UserError` for a study that this machine cannot carry out. `missing`: its runs that are to be done."""
    check_machine(study)
    whole = [run.spec.model for run in missing if trains_whole_model(run.spec.method.name) and run.spec.role == "final"]
    for spec in study.models:
        check_disk(count_parameters(spec), whole.count(spec), folder, spec.name)


def check_machine(study: StudySpec) -> None:
    """Raise `UserError` for a run of the study that needs more memory or processors than there are."""
    there = machine_memory()
    check_processes(study.train.processes, on_cpu=there is not None)
    if there is None:
        return
    for spec in study.models:
        parameters = count_parameters(spec)
        for method in study.methods:
            check_memory(spec, parameters, method, there, study.train.processes)


def check_processes(count: int, *, on_cpu: bool) -> None:
    """Raise `UserError` for a number of processes that cannot train together here."""
    if count == 1:
        return
    if not on_cpu:
        raise UserError(f"--processes {count}: an accelerator is not divided among processes; leave it out")
    if count > usable_cores():
        raise UserError(f"--processes {count}: this machine has {usable_cores()} processors for programs; give less")


def machine_memory() -> int | None:
    """Memory that this process may use, swap included; None where models run on an accelerator with its own memory."""
    import psutil

    if may_have_accelerator():
        from tuneoff.engine.precision import pick_device

        if pick_device().type != "cpu":
            return None
    total, machine = total_memory(), int(psutil.virtual_memory().total)
    return total if total < machine else total + int(psutil.swap_memory().total)


def free_disk(folder: Path) -> int:
    """Free bytes on the disk that a folder is on, or will be on."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def gigabytes(size: float) -> str:
    """Bytes as GB, with one digit after the point."""
    return f"{size / 1e9:,.1f} GB"
