"""What ended a run, in our words: libraries do not say which part of a run failed, or what to do."""

import errno
import traceback

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
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" ({error.filename})" if error.filename else ""
        message = f"the disk was full {where}{place}; free some space, then run the same command again"
    else:
        message = f"an error {where} ({said}); the record of the run has the traceback"
    return Failure(type=kind, message=message, traceback="".join(traceback.format_exception(error)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, that of an accelerator included. Torch has no exception of its own for the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return any(words in str(error) for words in ("can't allocate memory", "Cannot allocate memory", "bad_alloc"))
