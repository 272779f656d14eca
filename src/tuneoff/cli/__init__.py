"""The command line: parse, call one function, print. Data goes to stdout, messages to stderr.

Exit codes: 0 done, 1 could not be done, 2 a mistake in what was asked for, 3 some runs of a study failed,
130 interrupted (Ctrl-C), 143 terminated.
"""

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

from tuneoff.errors import RunFailure, UserError

DONE, FAILED, USAGE, SOME_FAILED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143


class Terminated(BaseException):
    """SIGTERM came. Like `KeyboardInterrupt`, so that running children are stopped on the way out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A user's mistake is one sentence on stderr, never a traceback."""
    from tuneoff.cli import app

    arguments = list(sys.argv[1:] if argv is None else argv)
    return guard(lambda: app.dispatch(arguments))


def guard(work: Callable[[], int]) -> int:
    """Call `work` and turn what ends it early into a sentence and an exit code."""
    _terminate_like_an_interrupt()
    try:
        return work()
    except UserError as error:
        return complain(str(error), USAGE)
    except RunFailure as error:
        return complain(str(error), FAILED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone; the interpreter must not complain about it either
        return FAILED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return complain(f"{place}{error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        return complain("interrupted; the same command goes on where this one stopped", INTERRUPTED)
    except Terminated:
        return complain("terminated; the same command goes on where this one stopped", TERMINATED)


def complain(message: str, code: int) -> int:
    """One sentence on stderr, control characters made visible: it may quote a file's content."""
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in " ".join(message.split()))
    print(f"tuneoff: {shown}", file=sys.stderr)
    return code


def _terminate_like_an_interrupt() -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
