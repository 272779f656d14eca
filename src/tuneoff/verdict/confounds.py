"""Whether the runs of one base model were computed alike: in the same arithmetic, with the same libraries, on the same
kind of machine. What differs there is mixed up with the methods when it does not differ in all of them alike.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tuneoff.methods import METHODS
from tuneoff.results.run_record import Record
from tuneoff.results.summary import Confound

LIBRARIES = ("torch", "transformers", "peft", "tokenizers")


# A trial that diverged has chosen too.
_ROLES = {"final": ("finished",), "trial": ("finished", "diverged"), "timing": ("finished",)}
Labelled = Sequence[tuple[Record, str]]


def mixtures(records: Iterable[Record]) -> list[Confound]:
    """What the finished final runs of one study differ in, for each base model, grave ones first; then the methods
    whose setting was chosen by trials, or whose costs were timed, in another arithmetic. What a record does not tell is
    passed over."""
    order = {name: place for place, name in enumerate(METHODS)}
    ended = sorted(
        (record for record in records if record.status in ("finished", "diverged")),
        key=lambda record: order.get(record.spec.method.name, len(order)),
    )
    found = []
    for own in _grouped([(record, _title(record)) for record in ended], lambda record: record.spec.model.name):
        roles = {
            role: [entry for entry in own if entry[0].spec.role == role and entry[0].status in statuses]
            for role, statuses in _ROLES.items()
        }
        finals = roles["final"]
        for aspect in _ASPECTS:
            runs = [*finals, *roles["timing"]] if aspect.of_costs else finals
            if len(_counted(aspect, runs)) > 1:
                found.append(_told(aspect, runs))
        found += _otherwise("settings were chosen", "trials", roles["trial"], finals)
        found += _otherwise("costs were timed", "timing run", roles["timing"], finals)
    return sorted(found, key=lambda one: not one.changes_scores)


def across(studies: Iterable[tuple[str, Iterable[Record]]]) -> list[Confound]:
    """What the finished final runs of a base model differ in between the named studies, grave ones first."""
    finals = [
        (record, name)
        for name, records in studies
        for record in records
        if record.status == "finished" and record.spec.role == "final"
    ]
    found = []
    for own in _grouped(finals, _weights):
        for aspect in _ASPECTS:
            values: dict[str, set[str]] = {}
            for record, name in own:
                values.setdefault(name, set()).update(filter(None, [aspect.read(record)]))
            told = [one for one in values.values() if one]
            if any(one != told[0] for one in told):
                found.append(_told(aspect, own))
    return sorted(found, key=lambda one: not one.changes_scores)


def arithmetic(record: Record) -> str | None:
    """Number format of weights and products, and the device unless it is the processor; None where it is not told."""
    number, device = record.details.dtype, _device_type(record)
    return number if number is None or device == "cpu" else f"{number} on {device}"


def _device_type(record: Record) -> str:
    return (record.details.device or "cpu").partition(":")[0]


def _machine(record: Record) -> str | None:
    """Processor and cores that the run might use; the accelerators where it ran on one."""
    machine = record.provenance.machine
    if machine is None or not machine.cpu:
        return None
    cores = machine.usable_cores
    words = machine.cpu if cores is None else f"{machine.cpu} with {cores} core{'' if cores == 1 else 's'}"
    if _device_type(record) == "cpu":
        return words
    return " and ".join([words, *(accelerator.name for accelerator in machine.accelerators or ())])


def _numerics(record: Record) -> str | None:
    version = record.provenance.numerics_version
    return None if version is None else f"version {version}"


def _kernels(record: Record) -> str | None:
    return None if record.details.kernels is None else f"those of {record.details.kernels}"


def _library(name: str) -> Callable[[Record], str | None]:
    return lambda record: (record.provenance.versions or {}).get(name) or None


@dataclass(frozen=True)
class _Aspect:
    name: str
    read: Callable[[Record], str | None]
    grave: bool = False
    of_costs: bool = False  # timing runs count too
    so: str = ""


_BY_ITSELF = "; scores may differ for that alone"
_ASPECTS = (
    _Aspect("arithmetic", arithmetic, grave=True, so=_BY_ITSELF),
    _Aspect("tuneoff's numerics", _numerics, grave=True, so=_BY_ITSELF),
    _Aspect("kernels", _kernels, grave=True, of_costs=True, so=_BY_ITSELF),
    _Aspect("machine", _machine, of_costs=True, so="; their times and energy do not compare"),
    *(_Aspect(name, _library(name)) for name in LIBRARIES),
)


def _counted(aspect: _Aspect, runs: Labelled) -> Counter[str]:
    return Counter(value for record, _ in runs if (value := aspect.read(record)) is not None)


def _told(aspect: _Aspect, runs: Labelled) -> Confound:
    parts = []
    for value, count in _counted(aspect, runs).most_common():
        labels = dict.fromkeys(label for record, label in runs if aspect.read(record) == value)
        parts.append(f"{value} ({count} run{'' if count == 1 else 's'}: {', '.join(labels)})")
    words = f"runs differ in {aspect.name}: {', '.join(parts)}{aspect.so}"
    return Confound(aspect=aspect.name, model=runs[0][0].spec.model.name, changes_scores=aspect.grave, words=words)


def _otherwise(what: str, who: str, runs: Labelled, finals: Labelled) -> list[Confound]:
    """The methods whose `runs` were computed in another arithmetic than their final runs."""
    parts = []
    for method in dict.fromkeys(label for _, label in finals):
        before, after = (
            {number for record, label in side if label == method and (number := arithmetic(record))}
            for side in (runs, finals)
        )
        if before and after and before != after:
            parts.append(f"{method} ({who} {_listed(before)}, final runs {_listed(after)})")
    if not parts:
        return []
    words = f"{what} in another arithmetic than that of the final runs: {', '.join(parts)}"
    return [
        Confound(
            aspect=f"arithmetic of the {who}", model=finals[0][0].spec.model.name, changes_scores=False, words=words
        )
    ]


def _listed(values: Iterable[str]) -> str:
    return " and ".join(sorted(values))


def _title(record: Record) -> str:
    name = record.spec.method.name
    return METHODS[name].title if name in METHODS else name


def _weights(record: Record) -> str:
    """What tells base models apart, whatever they are called."""
    model = record.provenance.model
    return model.content_hash if model else record.spec.model.name


def _grouped(runs: Labelled, key: Callable[[Record], str]) -> list[list[tuple[Record, str]]]:
    found: dict[str, list[tuple[Record, str]]] = {}
    for record, label in runs:
        found.setdefault(key(record), []).append((record, label))
    return list(found.values())
