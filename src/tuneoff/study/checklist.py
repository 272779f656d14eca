"""The list of `tuneoff check`: each condition of a study is looked at by itself, so that none hides another.

Reads settings and headers of the models. Only the probe of `look_at` loads weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tuneoff import data, models
from tuneoff.errors import RunFailure, UserError
from tuneoff.finite_weights import check_finite
from tuneoff.profiling.other_programs import OtherProgramsMeter
from tuneoff.prompts import field_names
from tuneoff.results.study_dir import StudyDir
from tuneoff.spec import ModelSpec, StudySpec
from tuneoff.study import planner, resources
from tuneoff.study.data_checks import columns_line
from tuneoff.study.duration import estimate
from tuneoff.study.executor import LocalExecutor, SilentObserver
from tuneoff.study.inputs import check_prompts, load_inputs
from tuneoff.study.inspection import InspectedModel
from tuneoff.study.preflight import check_positions, check_token_ids
from tuneoff.study.runner import Limits, prepare
from tuneoff.study.speed_probe import measure_speeds
from tuneoff.text import format_duration, plural

if TYPE_CHECKING:
    from tuneoff.data import Dataset

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Item:
    """One line of the list. `passed` is None for a remark, and for what could not be looked at."""

    name: str
    passed: bool | None
    text: str


def look_at(
    study: StudySpec,
    folder: Path,
    limits: Limits | None = None,
    *,
    keep_earlier: bool = False,
    probe: bool = False,
) -> Iterator[Item]:
    """Every item of a study in `folder`. Changes nothing there.

    `limits` and `keep_earlier`: as for `prepare`. `probe`: if nothing has failed, train and write a little with each
    method, for the minutes that the study needs.
    """
    failed = False

    def start() -> None:
        prepared = prepare(study, folder, limits, keep_earlier=keep_earlier, notify=lambda _said: None, measures=False)
        if prepared.missing:  # as a start does
            resources.check_resources(prepared.spec, prepared.missing, folder)

    for item in _conditions(study, folder, start):
        failed = failed or item.passed is False
        yield item
    if probe and not failed:
        yield from _minutes(study)
    else:
        why = "because of what has failed" if probe else "add --budget TIME to try each method for some seconds"
        yield Item("minutes", None, f"not measured; {why}")


def _minutes(study: StudySpec) -> Iterator[Item]:
    """What the runs of each method take together, from a probe."""
    inputs = load_inputs(study)
    meter = OtherProgramsMeter()
    with LocalExecutor() as executor:
        speeds, problem = _attempt(partial(measure_speeds, study, inputs, executor, SilentObserver()))
        others = meter.measure()
    if speeds is None:
        yield Item("minutes", False, problem)
        return
    for name in study.methods:
        alone = study.model_copy(update={"methods": (name,)})
        seconds = estimate(alone, inputs.sizes, speeds)
        runs = plural(planner.count(alone), "run")
        yield Item("minutes", True, f"{name}: about {format_duration(seconds)} for {runs} (from a probe)")
    if others is not None and (sentence := others.sentence()) is not None:
        yield Item("minutes", None, sentence)


def _conditions(study: StudySpec, folder: Path, start: Callable[[], None]) -> Iterator[Item]:
    yield _item("folder", StudyDir(folder).check_writable, f"{folder}: can be written")
    fields = field_names(study.prompt.instruction)
    dataset, problem = _attempt(partial(data.load_dataset, study.data, fields))
    if dataset is None:
        yield Item("data", False, problem)
    else:
        yield Item("data", True, dataset.description)
        if (columns := columns_line(dataset.columns)) is not None:
            yield Item("columns", True, columns)
    sound = dataset is not None
    for spec in study.models:
        for item in _of_model(study, spec, dataset, folder):
            sound = sound and item.passed is not False
            yield item
    if sound:
        inputs, problem = _attempt(partial(load_inputs, study))
        if inputs is None:
            yield Item("data", False, problem)
        else:
            yield _item("prompts", partial(check_prompts, study, inputs), "every kind of prompt can be filled")
            yield _item("start", start, f"{folder}: this study can begin or go on there")
            yield from (Item("caution", None, caution) for caution in inputs.cautions)
    elif dataset is not None:
        yield from (Item("caution", None, caution) for caution in dataset.cautions)


def _of_model(study: StudySpec, spec: ModelSpec, dataset: Dataset | None, folder: Path) -> Iterator[Item]:
    parameters, problem = _attempt(partial(resources.count_parameters, spec))
    if parameters is None:
        yield Item("model", False, problem)
        return
    yield Item("model", True, f"{spec.name}, {parameters / 1e6:,.1f} M parameters")
    tokenizer, problem = _attempt(partial(models.load_tokenizer, spec))
    yield Item("tokenizer", tokenizer is not None, problem or f"{spec.name}: can be loaded")
    model = InspectedModel(spec)
    weights = _item("weights", model.check_weights, f"{spec.name}: exactly those of its architecture")
    yield weights
    if weights.passed:
        yield _item("values", lambda: check_finite(models.weights_folder(spec)), f"{spec.name}: all weights are finite")
        fits = f"{spec.name} has room for {study.prompt.max_length} tokens"
        yield _item("positions", partial(check_positions, study, model), fits)
        if tokenizer is not None and dataset is not None:
            reserved = planner.reserved_tokens(study)
            check = partial(check_token_ids, study, model, tokenizer, dataset, reserved)
            yield _item("tokens", check, f"{spec.name} has an embedding for each token of a prompt")
        for name, method in planner.build_methods(study).items():
            yield _item(name, partial(model.check, method), f"can adapt {spec.name}")
    there, processes = resources.machine_memory(), study.train.processes
    for name in study.methods:
        need = resources.gigabytes(resources.least_memory(spec, parameters, name) * processes)
        together = f" for {processes} processes" if processes > 1 else ""
        text = f"{name}: at least {need} and activations{together} (estimate)"
        if there is None:
            yield Item("memory", None, f"{text}, on the accelerator")
        else:
            check = partial(resources.check_memory, spec, parameters, name, there, processes)
            yield _item("memory", check, f"{text}, of {resources.gigabytes(there)}")
    each = study.seeds * len(study.fractions) * (study.data.folds or 1)
    runs = each * sum(map(resources.trains_whole_model, study.methods))
    need = resources.gigabytes(resources.least_disk(parameters, runs))
    free = resources.gigabytes(resources.free_disk(folder))
    check = partial(resources.check_disk, parameters, runs, folder, spec.name)
    yield _item("disk", check, f"at least {need} for fully tuned models (estimate), {free} free")


def _attempt(look: Callable[[], _Found]) -> tuple[_Found | None, str]:
    """What `look` returns, or why it cannot."""
    try:
        return look(), ""
    except (UserError, RunFailure) as error:
        return None, str(error)


def _item(name: str, check: Callable[[], str | None], text: str) -> Item:
    """An item that has passed unless `check` raises. What `check` returns is added to `text`."""
    try:
        more = check()
    except (UserError, RunFailure) as error:
        return Item(name, False, str(error))
    return Item(name, True, f"{text}; {more}" if more else text)
