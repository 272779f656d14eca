"""`tuneoff doctor --strict`: what of the environment, the cache and a study folder is unsafe or damaged."""

import importlib.metadata
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from tuneoff.cache import cache_folder, damaged_files
from tuneoff.row_cache import damaged_row_files

# Variables that turn off a protection of a library, with what each does (torch/serialization.py reads this one).
_UNSAFE_VARIABLES = {
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "lets PyTorch run code from pickled files",
}
_OFF = {"", "0", "false", "no", "off"}


def problems(folder: Path | None, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """One sentence each, with the way out. `folder`: a study or run to check as well.

    Raises `UserError` for a folder that is not a study.
    """
    yield from _versions()
    yield from _variables(environment)
    yield from _permissions([cache_folder()] if folder is None else [cache_folder(), folder])
    yield from _cache()
    if folder is not None:
        yield from _study(folder)


def _versions() -> Iterator[str]:
    """Packages that are older or newer than tuneoff supports."""
    for text in importlib.metadata.requires("tuneoff") or ():
        wanted = Requirement(text)
        optional = wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})
        if optional and not (wanted.marker and wanted.marker.evaluate({"extra": "tune"})):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            if optional:  # an installation that only judges
                continue
            yield f"{wanted.name}: not installed; run pip install '{wanted.name}{wanted.specifier}'"
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            yield (
                f"{wanted.name} {version}: tuneoff needs {wanted.specifier}; run pip install "
                f"'{wanted.name}{wanted.specifier}'"
            )


def _variables(environment: Mapping[str, str]) -> Iterator[str]:
    for name, effect in _UNSAFE_VARIABLES.items():
        if environment.get(name, "").strip().lower() not in _OFF:
            yield f"{name}: this variable {effect}; unset it"
    endpoint = environment.get("HF_ENDPOINT", "")
    if endpoint.startswith("http:"):
        yield f"HF_ENDPOINT: {endpoint} is not encrypted, so that others can change models on the way; use https"


def _permissions(folders: Sequence[Path]) -> Iterator[str]:
    """Folders in which other users can exchange files, those above them included."""
    if os.name == "nt":
        return
    for path in dict.fromkeys(path for folder in map(Path.absolute, folders) for path in (folder, *folder.parents)):
        try:
            status = path.stat()
        except OSError:
            continue
        shared = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
        if shared:
            yield f"{path}: every user can change what is in it; run chmod o-w {path}"
        if path == cache_folder().absolute() and status.st_uid != os.geteuid():
            yield f"{path}: the cache belongs to another user; set TUNEOFF_CACHE to a folder of your own"


def _cache() -> Iterator[str]:
    from tuneoff.model_weights import damaged_copies

    for path in (*damaged_files(), *damaged_row_files(), *damaged_copies()):
        yield f"{path}: damaged, or of another version of tuneoff; delete it, or let the next study make it again"


def _study(folder: Path) -> Iterator[str]:
    from tuneoff.results.verification import verify

    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            yield f"{path}: a link, which may lead out of the folder; replace it by the file"
        elif not (path.is_file() or path.is_dir()):
            yield f"{path}: a pipe or device; delete it"
    for file in verify(folder):
        if file.state in ("damaged", "missing"):
            yield f"{folder / file.path}: {file.state}; restore it, or run the command that made the study again"
