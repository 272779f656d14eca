"""What ended a run, in our words: libraries do not say which part of a run failed, or what to do."""

import errno
import os
import shutil
import sys
import traceback
from pathlib import Path

from tuneoff.results.run_record import Failure

_SHOWN = 300


def failure_of(error: Exception, phase: str | None) -> Failure:
    """The failure that `error` is in a phase of a run. Its message ends in what to do; its traceback is kept."""
    where = f"in phase {phase}" if phase else "before the first phase"
    kind = type(error).__name__
    words = " ".join(str(error).split())
    said = f"{kind}: {words[:_SHOWN]}{'...' if len(words) > _SHOWN else ''}" if words else kind
    if is_out_of_memory(error):
        message = f"memory ran out {where}; use a smaller --micro-batch-tokens, --max-length or model ({said})"
    elif isinstance(error, OSError) and (room := no_room(error.errno, where, error.filename)) is not None:
        message = room
    else:
        message = f"an error {where} ({said}); the record of the run has the traceback"
    return Failure(type=kind, message=message, traceback="".join(traceback.format_exception(error)))


def no_room(number: int | None, where: str, path: object = None) -> str | None:
    """Why a file could not be written, with what to do; None for another error number than those of want of room."""
    if number in (errno.ENOSPC, errno.EDQUOT):
        place = _in_brackets(path, _free_bytes(path))
        return f"the disk was full {where}{place}; free some space, then run the same command again"
    if number == errno.EFBIG:
        place = _in_brackets(path, _largest_file())
        return (
            f"a file was larger {where} than the shell or the file system allows{place}; raise the limit (ulimit -f), "
            "then run the same command again"
        )
    return None


def _in_brackets(*facts: object) -> str:
    known = ", ".join(str(fact) for fact in facts if fact)
    return f" ({known})" if known else ""


def _free_bytes(path: object) -> str | None:
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    place = Path(os.fsdecode(path))
    try:
        return f"{shutil.disk_usage(place if place.exists() else place.parent).free:,} bytes are free"
    except OSError:
        return None


def _largest_file() -> str | None:
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if limit == resource.RLIM_INFINITY else f"the limit is {limit:,} bytes"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, that of an accelerator included. Torch has no exception of its own for the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return any(words in str(error) for words in ("can't allocate memory", "Cannot allocate memory", "bad_alloc"))
