"""Opens files that somebody else may have written: regular files only, and no more of them than a limit.

A pipe without a writer blocks whoever opens it, a device such as /dev/zero never ends, and a terabyte without content
takes no room in an archive.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from tuneoff.errors import UserError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
ALWAYS_READ_BYTES = 10**9  # of any file: a second or two
_LARGEST_RATIO = 10  # of size to room on the disk, for a larger file: a file system may compress
# Without O_NONBLOCK, opening a pipe waits for its writer.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def check_regular(path: Path, status: os.stat_result | None = None) -> os.stat_result:
    """The status of a regular file, which `status` may already be.

    Raises `UserError` for a pipe, device, socket or folder, and `OSError` for a file that is not there.
    """
    found = path.stat() if status is None else status
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
        raise UserError(f"{path}: {kind}, where a regular file was expected; put a file there or name another one")
    return found


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises as `check_regular` does, without waiting."""
    check_regular(path)
    handle = os.open(path, _FLAGS)
    try:
        check_regular(path, os.fstat(handle))  # it may have been exchanged since
    except BaseException:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_limited(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file. Raises `UserError` if it has more than `most_bytes`, else as `open_regular`."""
    with open_regular(path) as stream:
        # A file of a terabyte without content takes no room on a disk; those of /proc say that they are empty.
        is_larger = os.fstat(stream.fileno()).st_size > most_bytes
        content = b"" if is_larger else stream.read(most_bytes + 1)
    if is_larger or len(content) > most_bytes:
        raise UserError(f"{path}: larger than the {most_bytes / 1e6:,g} MB that such a file may have; check the file")
    return content


def check_filled(name: str, handle: int, largest_ratio: int = _LARGEST_RATIO) -> None:
    """Raise `UserError` for a large open file that is mostly a hole, which would be read for hours."""
    size, stored = os.fstat(handle).st_size, _stored_bytes(handle)
    if stored is not None and size > max(ALWAYS_READ_BYTES, largest_ratio * stored):
        raise UserError(
            f"{name}: {size / 1e9:,.1f} GB of which only {stored:,} bytes were ever written, so its content is lost or "
            "was never there; copy the file again, or remove it"
        )


def _stored_bytes(handle: int) -> int | None:
    """What a file takes on its disk; None where that is not known."""
    blocks: int | None = getattr(os.fstat(handle), "st_blocks", None)
    if blocks == 0 and not _is_one_hole(handle):  # some network file systems count no blocks
        return None
    return None if blocks is None else 512 * blocks


def _is_one_hole(handle: int) -> bool:
    try:
        os.lseek(handle, 0, os.SEEK_DATA)
    except OSError as error:
        return error.errno == errno.ENXIO
    finally:
        os.lseek(handle, 0, os.SEEK_SET)
    return False
