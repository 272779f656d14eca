"""Opens files that somebody else may have written: regular files only, no more than a limit, and none elsewhere.

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
ALWAYS_READ_BYTES = 10**9  # of any file that was written: a second or two
_LARGEST_RATIO = 10  # of size to room on the disk, for a larger file: a file system may compress
# The same for smaller files: a folder may have thousands of them. Whole blocks are compressed 32 to 1 at most.
SMALL_BYTES, _LARGEST_RATIO_ANYWHERE = 16_000_000, 100
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


def link_out_of(folder: Path, path: Path) -> Path | None:
    """Where a link on the way from `folder` to `path` below it leads, if that is outside of the folder; else None.

    `folder` itself may be a link.
    """
    between = folder
    for name in path.relative_to(folder).parts:
        between /= name
        if between.is_symlink():
            target = Path(os.path.realpath(path))  # Path.resolve raises for a link to itself
            return None if target.is_relative_to(os.path.realpath(folder)) else target
    return None


def check_inside(folder: Path, path: Path) -> None:
    """Raise `UserError` if `path` below `folder` is a file elsewhere, by a link."""
    if (target := link_out_of(folder, path)) is not None:
        raise UserError(
            f"{path}: a link to {target}, outside of {folder}, and only what is inside is read; put a copy in its place"
        )


def check_default_place(place: Path) -> None:
    """Raise `UserError` if a default folder, below the current one, is elsewhere by a link: nobody typed that place."""
    for path in (place, *place.parents):
        if path.is_symlink():
            raise UserError(f"{path}: a link to {os.path.realpath(path)}; name the folder to write to with --output")


def read_limited(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file.

    Raises `UserError` if it has more than `most_bytes` or is mostly a hole, else as `open_regular`.
    """
    with open_regular(path) as stream:
        # A file of a terabyte without content takes no room on a disk; those of /proc say that they are empty.
        is_larger = os.fstat(stream.fileno()).st_size > most_bytes
        if not is_larger:
            check_filled(str(path), stream.fileno())
        content = b"" if is_larger else stream.read(most_bytes + 1)
    if is_larger or len(content) > most_bytes:
        raise UserError(f"{path}: larger than the {most_bytes / 1e6:,g} MB that such a file may have; check the file")
    return content


def check_filled(name: str, handle: int, largest_ratio: int = _LARGEST_RATIO) -> None:
    """Raise `UserError` for an open file that is mostly a hole, which would be read for hours. Small ones pass."""
    size = os.fstat(handle).st_size
    stored = _stored_bytes(handle) if size > min(SMALL_BYTES, ALWAYS_READ_BYTES) else None
    if stored is not None and (
        size > max(ALWAYS_READ_BYTES, largest_ratio * stored)
        or size > max(SMALL_BYTES, max(largest_ratio, _LARGEST_RATIO_ANYWHERE) * stored)
    ):
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
