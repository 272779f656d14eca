"""A study's own folder: which runs it already holds, and whether a study may use it.

A study folder holds `study.json` (what was asked for) and `plan.json` (contents and the runs that belong to it). The
same study on the same folder does only what is missing; a different one is refused with a list of the differences.
"""

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuneoff import methods
from tuneoff.errors import UserError
from tuneoff.results import run_record
from tuneoff.results.lock import LOCK_FILE
from tuneoff.results.run_record import NUMERICS_VERSION, write_json
from tuneoff.spec import StudySpec
from tuneoff.study.planner import LOCATIONS, Contents, PlannedRun, hyperparameters_of

# None of these touches a run that is there: they add runs and rows, or are compared one by one.
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
)


def is_done(study_folder: Path, run: PlannedRun) -> bool:
    """Whether a finished record of exactly this run lies in the study folder."""
    folder = study_folder / run.folder
    if not (folder / "record.json").exists():
        return False
    try:
        found = run_record.read_record(folder)
    except UserError:
        return False  # damaged: run it again
    return _ended(found) and found.run_id == run.run_id


def trial_loss(study_folder: Path, run: PlannedRun) -> float | None:
    """The validation loss of a trial: infinite where it diverged, failed or was cut, None where it is still to do."""
    folder = study_folder / run.folder
    if not (folder / "record.json").exists():
        return None
    try:
        found = run_record.read_record(folder)
    except UserError:
        return None
    if found.run_id != run.run_id or found.status in ("interrupted", "running"):
        return None
    loss = found.curve.best_validation_loss
    lasted = found.status == "finished" and found.curve.cut_at is None
    return loss if lasted and loss is not None else math.inf


def trial_rungs(study_folder: Path, run: PlannedRun) -> dict[int, float]:
    """Validation losses by step at the rungs that a halved trial reached; none where it diverged or did not end."""
    if not is_done(study_folder, run):
        return {}
    found = run_record.read_record(study_folder / run.folder)
    if found.status != "finished":
        return {}
    steps = {step for step, _ in run.spec.cut_above}
    return {point.step: point.loss for point in found.curve.validation if point.step in steps}


def earlier_runs(study_folder: Path) -> dict[str, int]:
    """Ids of the runs in a study folder that an earlier version of the numerics did to their end, and that version."""
    found = {}
    for file in sorted(study_folder.glob("runs/*/record.json")):
        try:
            one = run_record.read_record(file.parent)
        except UserError:
            continue  # damaged: it is run again
        version = one.provenance.get("numerics_version")
        if _ended(one) and isinstance(version, int) and version < NUMERICS_VERSION:
            found[one.run_id] = version
    return found


def _ended(one: run_record.Record) -> bool:
    return one.status == "finished" or (one.status == "diverged" and one.spec.role == "trial")


def keeps_earlier_runs(study_folder: Path) -> bool:
    """Whether somebody has told this version before that runs of earlier ones count in this folder."""
    try:
        found = json.loads((study_folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("numerics") == NUMERICS_VERSION and "earlier_numerics" in found


def claim(study_folder: Path, study: StudySpec, contents: Contents, runs: Sequence[PlannedRun]) -> None:
    """Make the study folder this study's own: create it, or check that it was; write `study.json` and `plan.json`.

    Raises `UserError` when the folder cannot be written or belongs to a different study.
    """
    check_folder(study_folder, study, contents, keep_earlier=contents.earlier is not None)
    try:
        write_json(study_folder / "study.json", study.without_paths().model_dump(mode="json"))
        write_json(
            study_folder / "plan.json",
            {**_fingerprint(contents), "runs": [run.folder.name for run in runs]},
        )
    except OSError as error:
        raise UserError(f"{study_folder}: cannot be written ({error.strerror}); choose another --output") from error


def check_folder(study_folder: Path, study: StudySpec, contents: Contents, *, keep_earlier: bool = False) -> None:
    """Raise `UserError` when this study may not use the folder. Changes nothing.

    `keep_earlier`: a folder that was begun with an earlier version of the numerics may go on.
    """
    check_writable(study_folder)
    path = study_folder / "study.json"
    if not path.exists():
        if study_folder.is_dir() and any(entry.name != LOCK_FILE for entry in study_folder.iterdir()):
            raise UserError(f"{study_folder}: holds other files and no study; choose an empty folder with --output")
        return
    try:
        earlier = StudySpec.model_validate_json(path.read_text(encoding="utf-8"))
        fingerprint = json.loads((study_folder / "plan.json").read_text(encoding="utf-8"))
        if not isinstance(fingerprint, dict):
            raise TypeError("plan.json is no table")
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError, OSError, TypeError) as error:
        raise UserError(f"{path}: damaged or from another version of tuneoff; choose another --output") from error
    changes = [*differences(earlier, study), *_changed_contents(fingerprint, contents)]
    if not (changes or keep_earlier) and fingerprint.get("numerics") != NUMERICS_VERSION:
        raise UserError(
            f"{study_folder}: begun with version {fingerprint.get('numerics')} of tuneoff's numerics, and this is "
            f"{NUMERICS_VERSION}, whose scores may differ a little; go on all the same with --keep-earlier, which "
            "keeps the runs that are there, or choose another --output"
        )
    if changes:
        shown = "; ".join(changes[:6]) + (f"; and {len(changes) - 6} more" if len(changes) > 6 else "")
        raise UserError(f"{study_folder}: belongs to a different study ({shown}); choose another --output")


def check_writable(folder: Path) -> None:
    """The nearest existing folder must take new files; nothing is left behind."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"{existing}: is a file, not a folder; choose another --output")
    try:
        handle, name = tempfile.mkstemp(dir=existing, prefix=".tuneoff-")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from error
    os.close(handle)
    Path(name).unlink()


def differences(earlier: StudySpec, study: StudySpec) -> list[str]:
    """Settings that two studies do not share, as `name: before -> now`; what only adds or leaves out runs is none."""
    before = dict(_settings(_comparable(earlier)))
    after = dict(_settings(_comparable(study)))
    changes = [
        f"{key}: {before.get(key, 'default')} -> {after.get(key, 'default')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    for name in set(earlier.methods) & set(study.methods):
        old, new = (
            hyperparameters_of(methods.build(name, side.hyperparameters.get(name, {}))) for side in (earlier, study)
        )
        changes += [f"{name}.{key}: {old[key]} -> {new[key]}" for key in old if old[key] != new[key]]
    known = {model.name: model for model in earlier.models}
    for model in study.models:
        if model.name in known and model != known[model.name]:
            changes.append(f"settings of model {model.name}")
    return changes


def _comparable(study: StudySpec) -> dict[str, Any]:
    plain = study.model_dump(mode="json", exclude=set(MAY_GROW))
    for key in LOCATIONS:
        plain["data"].pop(key)
    return plain


def _settings(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf as (dotted name, plain value)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _settings(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def _fingerprint(contents: Contents) -> dict[str, Any]:
    found = {"data": contents.data, "models": dict(contents.models), "numerics": NUMERICS_VERSION}
    return found if contents.earlier is None else found | {"earlier_numerics": sorted(set(contents.earlier.values()))}


def _changed_contents(earlier: Mapping[str, Any], contents: Contents) -> Iterator[str]:
    if earlier.get("data") != contents.data:
        yield "the documents are not the same"
    for name, digest in contents.models.items():
        if earlier.get("models", {}).get(name, digest) != digest:
            yield f"the weights of model {name} are not the same"
