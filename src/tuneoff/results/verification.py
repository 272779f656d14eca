"""Checks a folder against its manifests: which files are whole, damaged, missing or not covered. Changes nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tuneoff.errors import UserError
from tuneoff.regular_files import link_out_of
from tuneoff.results.lock import LOCK_FILE
from tuneoff.results.manifest import MANIFEST, CoveredFolder, FileEntry, fault_of
from tuneoff.results.run_claims import CLAIMS
from tuneoff.results.study_dir import ATTEMPTS, DAMAGED, OUTPUTS, SLURM, STORE_FILE, StudyDir

State = Literal["whole", "damaged", "missing", "unknown", "left out"]
"""`left out`: without a digest on purpose. `unknown`: nobody knows what it is."""


@dataclass(frozen=True)
class CheckedFile:
    """One file, by its path relative to the folder. `why` explains a state, where there is more to say."""

    path: str
    state: State
    why: str | None = None


_OF_WORKERS = {
    CLAIMS: "it says who carries out a run",
    ATTEMPTS: "it belongs to a run in progress, or to an attempt that was given up",
    SLURM: "SLURM wrote it",
}


def verify(folder: Path) -> Iterator[CheckedFile]:
    """Every file of a study's or a run's folder, read in full and compared with its digest, in the order of paths.

    Raises `UserError` for a folder that has no manifest: nothing in it can be checked.
    """
    found = {MANIFEST: CheckedFile(MANIFEST, "whole")}
    entries: dict[str, FileEntry] = {}
    reasons = {LOCK_FILE: "it changes with every start", STORE_FILE: "it is about this copy of the study"}
    manifests = sorted((folder / "runs").glob(f"*/{MANIFEST}"))
    if not (folder / MANIFEST).exists() and not manifests:
        raise UserError(
            f"{folder}: has no {MANIFEST}, so nothing can be checked; run `tuneoff compare` there again with its flags "
            "if an earlier version of tuneoff made it"
        )
    for path in (folder / MANIFEST, *manifests):
        covered, prefix = CoveredFolder(path.parent), _relative(path.parent, folder)
        try:
            manifest = covered.manifest
        except UserError:
            found[f"{prefix}{MANIFEST}"] = CheckedFile(f"{prefix}{MANIFEST}", "damaged")
            continue
        if manifest is None:
            found[MANIFEST] = CheckedFile(MANIFEST, "missing")
            continue
        # A study's manifest comes first: it has the last word on its runs.
        entries = {**{f"{prefix}{name}": entry for name, entry in manifest.files.items()}, **entries}
        reasons |= {f"{prefix}{name}": why for name, why in manifest.left_out.items()}
        found.setdefault(f"{prefix}{MANIFEST}", CheckedFile(f"{prefix}{MANIFEST}", "whole"))
    entries |= _outputs(folder, found)
    for name, entry in entries.items():
        elsewhere = link_out_of(folder, folder / name) is not None  # commands refuse to read it
        fault = "damaged" if elsewhere else fault_of(folder / name, entry)
        if fault == "missing":
            found[name] = CheckedFile(name, "missing")
        elif found.get(name) is None or fault is not None:
            found[name] = CheckedFile(
                name, "whole" if fault is None else "damaged", "a link out of the folder" if elsewhere else None
            )
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name not in found and path.is_file() and not name.startswith(f"{DAMAGED}/"):
            why = reasons.get(name) or _OF_WORKERS.get(name.partition("/")[0])
            found[name] = CheckedFile(name, "unknown" if why is None else "left out", why or "no manifest lists it")
    yield from (found[name] for name in sorted(found))


def _relative(path: Path, folder: Path) -> str:
    return "" if path == folder else f"{path.relative_to(folder).as_posix()}/"


def _outputs(folder: Path, found: dict[str, CheckedFile]) -> Mapping[str, FileEntry]:
    if not (folder / OUTPUTS).exists():
        return {}
    outputs = StudyDir(folder).outputs()
    found[OUTPUTS] = CheckedFile(OUTPUTS, "damaged" if outputs is None else "whole")
    return outputs or {}
