"""A folder for what is needed for a moment only. What killed processes have left of such folders is removed."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tuneoff.errors import UserError

try:
    import fcntl
except ImportError:  # Windows, where nothing is removed
    fcntl = None  # type: ignore[assignment]

_PREFIX = "tuneoff-temporary-"
_LEAST_AGE_SECONDS = 60.0  # a folder is locked a moment after it was made


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder, which is removed at the end: a hidden one in `parent`, by default in that of TMPDIR.

    Raises `UserError` if it cannot be made.
    """
    prefix = _PREFIX if parent is None else f".{_PREFIX}"
    try:
        folder = tempfile.TemporaryDirectory(prefix=prefix, dir=parent)
    except OSError as error:
        reason = error.strerror or str(error)
        if parent is not None:
            raise UserError(f"{parent}: cannot be written ({reason}); choose another --output") from error
        place = f"{error.filename}: " if error.filename else ""
        raise UserError(
            f"{place}no temporary file can be written ({reason}); set TMPDIR to a folder with room"
        ) from error
    with folder as name, _locked(Path(name)):
        _remove_abandoned(Path(name).parent, prefix)
        yield Path(name)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, which the system releases when this process ends; whether nobody else holds it."""
    if fcntl is None:
        yield False
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the folders of processes of this user that have ended."""
    if fcntl is None:
        return
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < _LEAST_AGE_SECONDS:
                continue
            with _locked(folder) as is_free:
                if is_free:
                    shutil.rmtree(folder, ignore_errors=True)
