"""One writer per study folder. The system releases the lock of a process that dies, also by kill -9."""

import contextlib
import errno
import os
import re
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from tuneoff.errors import UserError
from tuneoff.text import sanitize

LOCK_FILE = ".lock"
# Windows locks bytes and refuses to read them; a byte far after the text leaves the text readable.
_LOCKED_BYTE = 1 << 30
_OWN_TEXT = re.compile(rb"(\d+( \S+)?)?\s*")
_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


@contextlib.contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made if it is missing. Raises `UserError` if another process holds it or it is read-only.

    The file stays: after its removal, two processes could lock two files of the same name.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Closed on exec, so no child keeps the lock. A link is not followed: its target would be emptied.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        if path.is_symlink():
            raise UserError(f"{path}: a link, where tuneoff keeps its lock; remove it") from error
        message = f"{folder}: cannot write there ({error.strerror}); choose another --output"
        raise UserError(message) from error
    try:
        try:
            _lock(handle)
        except OSError as error:
            if error.errno not in _HELD:
                message = f"{folder}: this file system has no locks ({error.strerror}); choose another --output"
                raise UserError(message) from error
            who = _holder(os.read(handle, 512).decode(errors="replace"))
            message = f"{folder}: {who} is working in this folder; wait for it, or choose another --output"
            raise UserError(message) from error
        _check_own(path, handle)
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()} {socket.gethostname()}\n".encode())
        try:
            yield
        finally:
            _unlock(handle)
    finally:
        os.close(handle)


def _check_own(path: Path, handle: int) -> None:
    """Raise `UserError` if the open file is not one that tuneoff made: it will be emptied."""
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: a pipe or device, where tuneoff keeps its lock; remove it")
    # A copy of a folder that shares its files has a lock of two names too.
    if status.st_nlink > 1 and not _OWN_TEXT.fullmatch(os.read(handle, 512)):
        raise UserError(
            f"{path}: another name of a file elsewhere (a hard link), where tuneoff keeps its lock; remove it"
        )
    os.lseek(handle, 0, os.SEEK_SET)


def _holder(text: str) -> str:
    """Who holds the lock, from the text of its file: process id and host."""
    pid, _, host = text.strip().partition(" ")
    if not pid.isdecimal():
        return "another process"
    return f"process {pid}" + (f" on {sanitize(host)}" if host else "")


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(handle, 0, os.SEEK_SET)

    def _unlock(handle: int) -> None:
        """Closing the file releases it."""

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(handle: int) -> None:
        # closing is not enough: a child between fork and exec holds a copy of the handle
        fcntl.flock(handle, fcntl.LOCK_UN)
