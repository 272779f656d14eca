"""What a folder of a stranger must not hold where tuneoff writes: links that lead elsewhere, pipes and devices."""

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tuneoff.errors import UserError

# Opened to be appended to, here or by the scheduler of a cluster; every other file is replaced.
_LOGS = re.compile(r"events\.jsonl|log\.txt|.*\.log")


def check_own_folders(folders: Iterable[Path]) -> None:
    """Raise `UserError` if one of the folders, or anything below it, would make a write change files elsewhere.

    That is a link to anything but a file, a link in place of a log, and what is neither a file nor a folder, which
    would block whoever opens it. Links to files stay: tuneoff reads them, and replaces them where it writes.
    """
    for folder in folders:
        if folder.is_symlink():
            raise _link(folder)
        for path, status in _below(folder):
            is_log = _LOGS.fullmatch(path.name) is not None
            if stat.S_ISLNK(status.st_mode):
                if is_log or not path.is_file():
                    raise _link(path)
            elif not stat.S_ISREG(status.st_mode):
                raise UserError(f"{path}: a pipe or device, where a regular file was expected; remove it")
            elif is_log and status.st_nlink > 1:
                raise UserError(
                    f"{path}: has another name elsewhere (a hard link), and tuneoff would write there too; put a copy "
                    "in its place"
                )


def check_no_link_between(folder: Path, path: Path) -> None:
    """Raise `UserError` if a folder between `folder` and the file `path` below it is a link."""
    between = folder
    for name in path.parent.relative_to(folder).parts:
        between /= name
        if between.is_symlink():
            raise _link(between)


def _below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below a folder except for folders, which are entered; links are not followed."""
    waiting = [folder]
    while waiting:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another worker has removed it
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(Path(entry.path))
                    else:
                        yield Path(entry.path), status


def _link(path: Path) -> UserError:
    return UserError(f"{path}: a link, and tuneoff writes only inside a study's own folder; remove it")
