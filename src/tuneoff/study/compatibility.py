"""Whether a study may use a folder that holds one already.

The same study does only what is missing; a different one is refused with the list of what differs.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tuneoff import methods
from tuneoff.engine.precision import NumberFormat
from tuneoff.errors import UserError
from tuneoff.results.run_record import NUMERICS_VERSION, Record
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import PlanFile
from tuneoff.spec import StudySpec
from tuneoff.study.planner import ContentHashes
from tuneoff.study.run_id import LOCATIONS

# None of these changes a run that exists: they add runs and rows, or are compared one by one.
MAY_GROW = (
    "name",
    "methods",
    "models",
    "seeds",
    "predictions",
    "hyperparameters",
    "claims",
    "fractions",
    "trials",
    "search_at",
    "halving",
    "choose_by",
    "scored_documents",
)
_SHOWN = 6  # differences in a message


def check_folder(folder: StudyDir, study: StudySpec, hashes: ContentHashes, *, keep_earlier: bool = False) -> None:
    """Raise `UserError` unless this study may use the folder. Changes nothing.

    `keep_earlier`: a folder that an earlier version of the numerics began may be continued.
    """
    folder.check_writable()
    earlier = folder.read_spec()
    if earlier is None and folder.has_foreign_files():
        raise UserError(f"{folder.path}: contains other files and no study; choose an empty folder with --output")
    plan, records = folder.read_plan(), []
    if earlier is None or plan is None:
        records = [run.record for run in folder.read_runs(skip_damaged=True)]
        plan = plan or _plan_of_records(records)
    if earlier is None:  # damaged, or the first start was interrupted
        earlier = _study_of_records(records, study)
    changes = [*differences(earlier, study), *(_changed_contents(plan, hashes) if plan else ())]
    if plan and not (changes or keep_earlier) and plan.numerics != NUMERICS_VERSION:
        raise UserError(
            f"{folder.path}: begun with version {plan.numerics} of tuneoff's numerics, and this is version "
            f"{NUMERICS_VERSION}, whose scores may differ slightly; add --keep-earlier to continue and keep the runs "
            "that are there, or choose another --output"
        )
    if changes:
        more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        shown = "; ".join(changes[:_SHOWN]) + more
        raise UserError(f"{folder.path}: belongs to a different study ({shown}); choose another --output")


def plan_file(hashes: ContentHashes, runs: tuple[str, ...], number_format: NumberFormat | None = None) -> PlanFile:
    """What `plan.json` holds. `runs`: names of run folders."""
    earlier = None if hashes.earlier is None else tuple(sorted(set(hashes.earlier.values())))
    return PlanFile(
        data=hashes.data,
        models=dict(hashes.models),
        numerics=NUMERICS_VERSION,
        earlier_numerics=earlier,
        runs=runs,
        number_format=number_format,
    )


def _plan_of_records(records: Iterable[Record]) -> PlanFile | None:
    """What `plan.json` says of contents and numerics, from the runs that ended; None if none did.

    Without a plan and without runs, the first start was interrupted between two files, so nothing is known and nothing
    was done.
    """
    plan: PlanFile | None = None
    for record in records:
        origin = record.provenance
        if not record.ended or origin.data is None or origin.model is None or origin.numerics_version is None:
            continue
        before = plan or PlanFile(data=origin.data.content_hash, models={}, numerics=origin.numerics_version)
        models = {**(before.models or {}), origin.model.name: origin.model.content_hash}
        numerics = min(before.numerics or origin.numerics_version, origin.numerics_version)
        plan = PlanFile(data=before.data, models=models, numerics=numerics)
    return plan


def _study_of_records(records: Iterable[Record], study: StudySpec) -> StudySpec:
    """What `study.json` says of settings that all runs share, from a run on all the data; `study` without one."""
    for record in records:
        spec = record.spec
        if record.ended and spec.is_main and spec.method.name not in study.steps:
            kept = {name: getattr(spec, name) for name in ("prompt", "train", "generate", "score")}
            paths = {key: getattr(study.data, key) for key in LOCATIONS}
            return study.model_copy(update={**kept, "data": spec.data.model_copy(update={**paths, "fold": None})})
    return study


def keeps_earlier_runs(plan: PlanFile | None) -> bool:
    """Whether runs of earlier versions already count for this version in this folder."""
    return plan is not None and plan.numerics == NUMERICS_VERSION and plan.earlier_numerics is not None


def earlier_runs(records: Iterable[Record]) -> dict[str, int]:
    """Ids of the runs that an earlier version of the numerics carried out to their end, with that version."""
    found = {}
    for record in records:
        version = record.provenance.numerics_version
        if record.ended and version is not None and version < NUMERICS_VERSION:
            found[record.run_id] = version
    return found


def differences(earlier: StudySpec, study: StudySpec) -> list[str]:
    """Settings that two studies do not share, as `name: before -> now`. What only adds or removes runs is not one."""
    before = dict(_leaves(_comparable(earlier)))
    after = dict(_leaves(_comparable(study)))
    changes = [
        f"{key}: {before.get(key, 'default')} -> {after.get(key, 'default')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    for name in set(earlier.methods) & set(study.methods):
        old, new = (
            methods.build(name, side.hyperparameters.get(name, {})).hyperparameters for side in (earlier, study)
        )
        changes += [f"{name}.{key}: {old[key]} -> {new[key]}" for key in old if old[key] != new[key]]
    known = {model.name: model for model in earlier.models}
    for model in study.models:
        if model.name in known and model != known[model.name]:
            changes.append(f"settings of model {model.name}")
    return changes


def _comparable(study: StudySpec) -> Mapping[str, Any]:
    plain = study.model_dump(mode="json", exclude=set(MAY_GROW))
    for key in LOCATIONS:
        plain["data"].pop(key, None)
    return plain


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf as (dotted name, plain value)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def _changed_contents(earlier: PlanFile, hashes: ContentHashes) -> Iterator[str]:
    if earlier.data != hashes.data:
        yield "the documents are not the same"
    for name, digest in hashes.models.items():
        if earlier.models.get(name, digest) != digest:
            yield f"the weights of model {name} are not the same"
