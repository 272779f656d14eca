"""Makes a study folder whole again: what is damaged is named and moved aside, so that the study computes it again.

Called under the folder's lock, before anything is read or written. Nothing is deleted but temporary files.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tuneoff.errors import UserError
from tuneoff.results.events import events_of
from tuneoff.results.json_files import LaterVersion, jsonl_text, write_text_atomic
from tuneoff.results.manifest import MANIFEST, FileEntry, entry_of_file, fault_of
from tuneoff.results.run_dir import PREDICTIONS, RECORD, RunDir
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import DAMAGED, OUTPUTS, StudyDir
from tuneoff.results.writable_folders import check_no_link_between

_AGAIN = "and is made again"


def recover(folder: StudyDir) -> Iterator[str]:
    """Check every file of the folder, and yield what was damaged and where it is now, one sentence each.

    Small files are checked by their digests, weights by size and time and, if these differ, by their digests. Raises
    `LaterVersion` for a file that a later version of tuneoff wrote.
    """
    if not folder.path.is_dir():
        return
    yield from _recover_manifest(folder)
    yield from _recover_files(folder)
    yield from _recover_outputs(folder)
    for name in _names_of_runs(folder):
        yield from _recover_run(folder, name)
        run = folder.run_dir(name)
        if run.path.is_dir():
            run.remove_leftovers()
            yield from _recover_log(run)
    missing = [name for name in _names_of_runs(folder) if not folder.run_files(name)]
    folder.cover_runs(missing)
    _adopt(folder, missing)


def set_aside(folder: StudyDir, path: Path) -> Path:
    """Move a file or a run's folder into `damaged/`, under a name that is free; where it is now.

    Raises `UserError` for a file behind a link, which is not one of the study.
    """
    check_no_link_between(folder.path, path)
    into = folder.path / DAMAGED
    into.mkdir(exist_ok=True)
    number = 1
    while (target := into / f"{path.name}-{number}").exists():
        number += 1
    path.rename(target)
    return target


def _moved(folder: StudyDir, path: Path, fault: str, then: str = _AGAIN) -> str:
    shown = path.relative_to(folder.path)
    if not path.exists():
        return f"{shown} was {fault} {then}"
    target = set_aside(folder, path)
    return f"{shown} was {fault}; it is now {target.relative_to(folder.path)} {then}"


def _recover_manifest(folder: StudyDir) -> Iterator[str]:
    path = folder.path / MANIFEST
    words = "; what it says of the runs is taken from theirs, and the rest is written again"
    try:
        if folder.covered.manifest is None and any(folder.path.glob(f"runs/*/{MANIFEST}")):
            yield f"{MANIFEST} was missing{words}"
    except UserError:
        yield _moved(folder, path, "damaged", words.removeprefix("; "))


def _recover_files(folder: StudyDir) -> Iterator[str]:
    gone = []
    for name, entry in folder.covered.files.items():
        if not name.startswith("runs/") and (fault := fault_of(folder.path / name, entry)) is not None:
            yield _moved(folder, folder.path / name, fault)
            gone.append(name)
    if gone:
        folder.covered.update({}, tuple(gone))
    if folder.covered.manifest is None:  # of an earlier version: what cannot be read is damaged
        for path in folder.unreadable():
            yield _moved(folder, path, "damaged")


def _recover_outputs(folder: StudyDir) -> Iterator[str]:
    """Files that every start writes again."""
    outputs = folder.outputs()
    if outputs is None:
        if (folder.path / OUTPUTS).exists():
            yield _moved(folder, folder.path / OUTPUTS, "damaged")
        return
    faults = {name: fault for name, entry in outputs.items() if (fault := fault_of(folder.path / name, entry))}
    for name, fault in faults.items():
        yield _moved(folder, folder.path / name, fault)
    if faults:
        (folder.path / OUTPUTS).unlink()


def _names_of_runs(folder: StudyDir) -> list[str]:
    there = {path.name for path in folder.path.glob("runs/*") if path.is_dir()}
    return sorted(there | set(folder.covered.files_by_folder("runs")))


def _recover_run(folder: StudyDir, name: str) -> Iterator[str]:
    run, files = folder.run_dir(name), folder.run_files(name)
    try:
        fault = _fault_of_listed(run, files) if files else _fault_of_unlisted(run)
    except LaterVersion:
        raise
    except UserError as error:
        fault = str(error).removeprefix(f"{run.path}/").split(";")[0]
    if fault is None:
        own = {key: entry for key, entry in files.items() if key != MANIFEST}
        # It may say the same in other bytes, which readers refuse.
        if MANIFEST in files and (_own_manifest(run) != own or fault_of(run.path / MANIFEST, files[MANIFEST])):
            run.write_manifest(own)
            folder.cover_runs([name])
            yield f"runs/{name}/{MANIFEST} was damaged or missing; it is written again from the study's {MANIFEST}"
        return
    folder.forget_runs([name])
    if run.path.is_dir():
        target = set_aside(folder, run.path)
        yield f"runs/{name}: {fault}; the run is now {target.relative_to(folder.path)} and is done again"
    else:
        yield f"runs/{name}: {fault}; it is done again"


def _recover_log(run: RunDir) -> Iterator[str]:
    """Event logs have no digest, because they grow. One that is gone is made again from the record."""
    if run.events.exists() or not run.has_record():
        return
    manifest = run.covered.manifest
    if manifest is None or run.events.name not in manifest.left_out or not (record := run.read_record()).ended:
        return
    write_text_atomic(run.events, jsonl_text(events_of(record)))
    yield f"runs/{run.name}/{run.events.name} was missing; it is made again from the record"


def _own_manifest(run: RunDir) -> dict[str, FileEntry] | None:
    try:
        return dict(run.covered.files)
    except UserError:
        return None


def _fault_of_listed(run: RunDir, files: Mapping[str, FileEntry]) -> str | None:
    if not run.path.is_dir():
        return "missing"
    return run.fault(files)


def _fault_of_unlisted(run: RunDir) -> str | None:
    """Of a run that ended while nobody looked, was interrupted, or was written by an earlier version."""
    if not run.has_record():
        return None
    if not (files := run.covered.files):
        run.read_record()
        run.read_predictions()
    return run.fault(files)


def _adopt(folder: StudyDir, names: list[str]) -> None:
    """Enter runs of an earlier version, which have no manifest: what happens to them from now on is noticed."""
    found = {}
    for run in map(folder.run_dir, names):
        if run.has_record() and not run.covered.files:
            record: Record = run.read_record()
            artefact = () if record.artefact is None else record.artefact.files
            for file in (RECORD, PREDICTIONS, *(f"artefact/{name}" for name in artefact)):
                if (run.path / file).is_file():
                    found[f"runs/{run.name}/{file}"] = entry_of_file(run.path / file)
    if found:
        folder.covered.update(found)
