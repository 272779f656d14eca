"""The command line: parse, call one function, print. Data goes to stdout, messages to stderr.

Exit codes: 0 done, 1 could not be done, 2 a mistake in the command, 3 some runs of a study failed,
130 interrupted (Ctrl-C), 143 terminated.
"""

import errno
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from tuneoff.errors import RunFailure, UserError
from tuneoff.text import sanitize

_SHOWN_NAME = 60
DONE, FAILED, USAGE, SOME_FAILED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A user's mistake is one sentence on stderr, never a traceback."""
    from tuneoff.cli import app

    if argv is None:
        silence_libraries()
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guard(lambda: app.dispatch([expand_home(argument) for argument in arguments]))


def expand_home(argument: str) -> str:
    """`~/x` and `--flag=~/x` with the home folder in place of `~`, as a shell does for some of its arguments only."""
    flag, equals, value = argument.partition("=")
    if equals and flag.startswith("--") and value.startswith("~/"):
        return f"{flag}={expand_home(value)}"
    return os.path.expanduser(argument) if argument.startswith("~/") else argument  # noqa: PTH111 - keeps `~` without home


def silence_libraries() -> None:
    """Warnings and logs of libraries stay out of this process' stderr; runs write theirs into `log.txt`.

    They also cannot end a command: PYTHONWARNINGS=error would turn them into exceptions. For programs, not for tests.
    """
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)


def guard(work: Callable[[], int]) -> int:
    """Call `work`; turn an exception that ends it into a sentence and an exit code."""
    _take_every_character()
    _terminate_like_an_interrupt()
    try:
        _check_python()
        return work()
    except UserError as error:
        return complain(str(error), USAGE)
    except RunFailure as error:
        return complain(str(error), FAILED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone; the interpreter must not report that either
        return FAILED
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            name = str(error.filename or "a path")
            shown = name if len(name) <= _SHOWN_NAME else f"{name[:_SHOWN_NAME]}..."
            limit = "a file system takes at most 255 bytes for the name of a file or folder, and some 4,000 for a path"
            return complain(f"{shown}: too long ({limit}); choose a shorter one", USAGE)
        if error.filename is None and not _in_a_folder():
            return complain("the current folder was deleted; change to another one with cd, then run this again", USAGE)
        place = f"{error.filename}: " if error.filename else ""
        return complain(f"{place}{error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        return complain("interrupted; run the same command to continue", INTERRUPTED)
    except SystemExit as stop:
        if stop.code != TERMINATED:
            raise
        return complain("terminated; run the same command to continue", TERMINATED)


def _in_a_folder() -> bool:
    """Whether the current folder exists."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _check_python() -> None:
    """Raise `UserError` for what libraries cannot be imported with."""
    if sys.flags.optimize > 1:
        raise UserError("PYTHONOPTIMIZE=2 (python -OO): transformers cannot load without docstrings; unset it")
    try:
        Path.home()
    except RuntimeError as error:  # a container may run under a user id without a name
        raise UserError("this user has no home folder, which libraries want; set one: export HOME=/tmp") from error


def complain(message: str, code: int) -> int:
    """One sentence on stderr. It may quote the content of a file, so control codes are replaced."""
    print(f"tuneoff: {sanitize(' '.join(message.split()))}", file=sys.stderr)
    return code


def _take_every_character() -> None:
    """Output never fails because of a character. Files and pipes get UTF-8, as all files of tuneoff; a terminal keeps
    its encoding, and a character that it lacks is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in tests, and without a console, they may be something else
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _terminate_like_an_interrupt() -> None:
    """SIGTERM unwinds the stack as Ctrl-C does, so that the current run is stopped and recorded."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
