"""Confounds: differences in environment between the runs of one base model.

Runs should use the same arithmetic, kernels, libraries and machine. If they do not, a difference between methods may
come from the environment instead of the method.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tuneoff.methods.rows import in_order, row_title
from tuneoff.results.run_record import Record
from tuneoff.results.summary import Confound
from tuneoff.spec import json_hash
from tuneoff.text import join_words, plural
from tuneoff.verdict.grouping import grouped

LIBRARIES = ("torch", "transformers", "peft", "tokenizers")


# Statuses that count. A diverged trial also influences which setting is chosen.
_STATUSES = {"final": ("finished",), "trial": ("finished", "diverged"), "timing": ("finished",)}
LabelledRuns = Sequence[tuple[Record, str]]  # a record, and the method or study that it belongs to


def find_confounds(records: Iterable[Record]) -> list[Confound]:
    """Confounds within one study, for each base model; those that change scores come first.

    Compares the finished final runs of a model with each other, and what all runs of a study share. Also compares the
    arithmetic of each method's trials and timing run with that of its final runs. Values that a record does not hold
    are ignored.
    """
    ended = sorted(
        (record for record in records if record.status in ("finished", "diverged")),
        key=lambda record: in_order(record.spec.method.name),
    )
    found = []
    labelled = [(record, row_title(record.spec.method.name)) for record in ended]
    for own in grouped(labelled, lambda entry: entry[0].spec.model.name).values():
        by_role = {
            role: [entry for entry in own if entry[0].spec.role == role and entry[0].status in statuses]
            for role, statuses in _STATUSES.items()
        }
        finals = by_role["final"]
        for aspect in (*_ASPECTS, *_SETTINGS):
            runs = [*finals, *by_role["timing"]] if aspect.affects_costs else finals
            if len(_count_values(aspect, runs)) > 1:
                found.append(_confound(aspect, runs))
        found += _other_arithmetic("settings were chosen", "trials", by_role["trial"], finals)
        found += _other_arithmetic("costs were timed", "timing run", by_role["timing"], finals)
    return sorted(found, key=lambda confound: not confound.changes_scores)


def confounds_between(studies: Iterable[tuple[str, Iterable[Record]]], *, settings: bool = False) -> list[Confound]:
    """Confounds between named studies, for the finished final runs of each base model.

    Base models are the same if their weights are, whatever their names. Confounds that change scores come first.
    `settings`: whether what all runs of one study share counts too: data, prompt, generation and effort.
    """
    finals = [
        (record, name)
        for name, records in studies
        for record in records
        if record.status == "finished" and record.spec.role == "final"
    ]
    found = []
    for own in grouped(finals, lambda entry: model_content(entry[0])).values():
        for aspect in (*_ASPECTS, *((*_SETTINGS, _EFFORT) if settings else ())):
            values: dict[str, set[str]] = {}
            for record, name in own:
                values.setdefault(name, set()).update(filter(None, [aspect.read(record)]))
            known = [of_study for of_study in values.values() if of_study]
            if any(of_study != known[0] for of_study in known):
                found.append(_confound(aspect, own))
    return sorted(found, key=lambda confound: not confound.changes_scores)


def confounds_between_sizes(records: Iterable[Record]) -> list[str]:
    """A sentence for each aspect that changes scores and in which a method's runs differ between training set sizes.

    `records` are those of one base model. Such a difference is mixed up with the effect of more data.
    """
    finals = [record for record in records if record.status == "finished" and record.spec.role == "final"]
    finals.sort(key=lambda record: (in_order(record.spec.method.name), record.spec.fraction))
    found = []
    for aspect in _ASPECTS:
        if not aspect.changes_scores:
            continue
        methods_of: dict[str, list[str]] = {}
        for method in dict.fromkeys(row_title(record.spec.method.name) for record in finals):
            values: dict[float, set[str]] = {}
            for record in finals:
                if row_title(record.spec.method.name) == method and (value := aspect.read(record)) is not None:
                    values.setdefault(record.spec.fraction, set()).add(value)
            fractions_of: dict[str, list[str]] = {}
            for fraction, of_fraction in values.items():
                fractions_of.setdefault(_sorted_words(of_fraction), []).append(f"{100 * fraction:g} %")
            if len(fractions_of) > 1:
                pattern = ", ".join(f"{value} at {join_words(at)}" for value, at in fractions_of.items())
                methods_of.setdefault(pattern, []).append(method)
        if methods_of:
            parts = "; ".join(f"{join_words(methods)} ({pattern})" for pattern, methods in methods_of.items())
            found.append(
                f"Caution: runs at different training set sizes differ in {aspect.name}: {parts}{aspect.consequence}."
            )
    return found


def arithmetic(record: Record) -> str | None:
    """Number format of a run, and its device unless that is the CPU; None if the record does not hold it."""
    number, device = record.details.dtype, _device_type(record)
    return number if number is None or device == "cpu" else f"{number} on {device}"


def _device_type(record: Record) -> str:
    return (record.details.device or "cpu").partition(":")[0]


def _machine(record: Record) -> str | None:
    """CPU and number of usable cores; for a run on an accelerator, the accelerators too."""
    machine = record.provenance.machine
    if machine is None or not machine.cpu:
        return None
    cores = machine.usable_cores
    name = machine.cpu if cores is None else f"{machine.cpu} with {cores} core{'' if cores == 1 else 's'}"
    if _device_type(record) == "cpu":
        return name
    return " and ".join([name, *(accelerator.name for accelerator in machine.accelerators or ())])


def _numerics_version(record: Record) -> str | None:
    version = record.provenance.numerics_version
    return None if version is None else f"version {version}"


def _kernel_set(record: Record) -> str | None:
    return f"those of {record.details.kernels}" if record.details.kernels else None


def _library_version(name: str) -> Callable[[Record], str | None]:
    return lambda record: (record.provenance.versions or {}).get(name) or None


def _data_content(record: Record) -> str | None:
    data = record.provenance.data
    return None if data is None else data.content_hash


def _weights(record: Record) -> str | None:
    model = record.provenance.model
    return None if model is None else model.content_hash


def _prompt(record: Record) -> str:
    return f"hash {json_hash(record.spec.prompt)[:6]}"


def _generation(record: Record) -> str:
    settings = record.spec.generate
    return f"{plural(settings.max_new_tokens, 'token')} and {plural(settings.num_beams, 'beam')} at most"


def _effort(record: Record) -> str | None:
    """Of trained methods: optimiser steps of how many examples."""
    if not record.curve.train or not record.spec.is_main:
        return None
    return f"{plural(record.curve.steps, 'step')} of {plural(record.spec.train.batch_size, 'example')}"


@dataclass(frozen=True)
class _Aspect:
    name: str
    read: Callable[[Record], str | None]
    changes_scores: bool = False
    affects_costs: bool = False  # timing runs are compared too
    consequence: str = ""


_CHANGES_SCORES = "; this alone may change scores"
_ASPECTS = (
    _Aspect("arithmetic", arithmetic, changes_scores=True, consequence=_CHANGES_SCORES),
    _Aspect("tuneoff's numerics", _numerics_version, changes_scores=True, consequence=_CHANGES_SCORES),
    _Aspect("kernels", _kernel_set, changes_scores=True, affects_costs=True, consequence=_CHANGES_SCORES),
    _Aspect("machine", _machine, affects_costs=True, consequence="; their times and energy are not comparable"),
    *(_Aspect(name, _library_version(name)) for name in LIBRARIES),
)
# What all runs of one study share. Records that were put together by hand may not.
_SETTINGS = (
    _Aspect("data", _data_content, changes_scores=True, consequence=_CHANGES_SCORES),
    _Aspect("weights of the base model", _weights, changes_scores=True, consequence=_CHANGES_SCORES),
    _Aspect("prompt", _prompt, changes_scores=True, consequence=_CHANGES_SCORES),
    _Aspect("generation", _generation, changes_scores=True, consequence=_CHANGES_SCORES),
    _Aspect(
        "what ROUGE counts", lambda record: record.spec.score.words, changes_scores=True, consequence=_CHANGES_SCORES
    ),
)

_EFFORT = _Aspect("training effort", _effort, changes_scores=True, consequence=_CHANGES_SCORES)


def _count_values(aspect: _Aspect, runs: LabelledRuns) -> Counter[str]:
    return Counter(value for record, _ in runs if (value := aspect.read(record)) is not None)


def _confound(aspect: _Aspect, runs: LabelledRuns) -> Confound:
    parts = []
    for value, count in _count_values(aspect, runs).most_common():
        labels = dict.fromkeys(label for record, label in runs if aspect.read(record) == value)
        parts.append(f"{value} ({count} run{'' if count == 1 else 's'}: {', '.join(labels)})")
    return Confound(
        aspect=aspect.name,
        model=runs[0][0].spec.model.name,
        changes_scores=aspect.changes_scores,
        description=f"runs differ in {aspect.name}: {', '.join(parts)}{aspect.consequence}",
    )


def _other_arithmetic(what: str, role: str, runs: LabelledRuns, finals: LabelledRuns) -> list[Confound]:
    """The methods whose `runs` used another arithmetic than their final runs, as at most one confound."""
    parts = []
    for method in dict.fromkeys(label for _, label in finals):
        before, after = (
            {number for record, label in side if label == method and (number := arithmetic(record))}
            for side in (runs, finals)
        )
        if before and after and before != after:
            parts.append(f"{method} ({role} {_sorted_words(before)}, final runs {_sorted_words(after)})")
    if not parts:
        return []
    return [
        Confound(
            aspect=f"arithmetic of the {role}",
            model=finals[0][0].spec.model.name,
            changes_scores=False,
            description=f"{what} in another arithmetic than that of the final runs: {', '.join(parts)}",
        )
    ]


def _sorted_words(values: Iterable[str]) -> str:
    return " and ".join(sorted(values))


def model_content(record: Record) -> str:
    """Hash of the weights, by which models are the same whatever their names; the name if there is no hash."""
    model = record.provenance.model
    return model.content_hash if model else record.spec.model.name
