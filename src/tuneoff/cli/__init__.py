"""The command line: parse, call one function, print. Data goes to stdout, messages to stderr.

Exit codes: 0 done, 1 could not be done, 2 a mistake in the command, 3 some runs of a study failed,
128 + its number after a signal: 130 interrupted (Ctrl-C), 143 terminated, 129 the terminal was closed.
"""

import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO, cast

from tuneoff import stopping
from tuneoff.cli.output import say, show_traceback
from tuneoff.errors import RunFailure, UserError
from tuneoff.extras import missing_extra
from tuneoff.text import LastingStream

_SHOWN_NAME = 60
DONE, FAILED, USAGE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130
_WHAT_SIGNALS_SAY = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "the terminal was closed"}
# Each exit code after a signal, and what is said about it.
_ENDED_BY = {code: _WHAT_SIGNALS_SAY.get(name, f"stopped by {name}") for name, code in stopping.EXIT_CODES.items()}
_HOW_TO_CONTINUE = "run the same command to continue"
_HOW_TO_CONTINUE_FRESH = "to continue, run the same command with the folder of this study instead of --fresh"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A user's mistake is one sentence on stderr, never a traceback."""
    if argv is None:
        silence_libraries()
        keep_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        from tuneoff.cli import app

        return app.dispatch([expand_home(argument) for argument in arguments])

    code = guard(work, _HOW_TO_CONTINUE_FRESH if "--fresh" in arguments else _HOW_TO_CONTINUE)
    if argv is None:
        stopping.leave_to_the_system(code)
    return code


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
    sys.excepthook = show_traceback
    sys.unraisablehook = _show_unraisable
    logging.disable(logging.CRITICAL)


def _show_unraisable(lost: "sys.UnraisableHookArgs") -> None:
    """What a signal raised in a destructor is raised again (`stopping.raise_again`), so nothing is said of it here."""
    if not isinstance(lost.exc_value, KeyboardInterrupt | SystemExit):
        sys.__unraisablehook__(lost)


def keep_streams() -> None:
    """A terminal that is gone, or a reader that has left, must not stop a study: its messages are then dropped.

    Output on stdout is data, so a reader that has left still ends the command. A descriptor that was closed by the
    shell (`>&-`) is opened again: otherwise the next file would get its number, and whatever a library prints.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")
    sys.stderr = cast(TextIO, LastingStream(sys.stderr))


def guard(work: Callable[[], int], how_to_continue: str = _HOW_TO_CONTINUE) -> int:
    """Call `work`; turn an exception or a signal that ends it into a sentence and an exit code."""
    _take_every_character()
    with stopping.signals_raise():
        try:
            _check_python()
            return work()
        except BaseException as error:
            stopping.begin_ending()
            code = _code_of_an_interruption(error)
            if code is None:
                code = _explain(error)
            else:
                complain(f"{_ENDED_BY[code]}; {how_to_continue}", code)
            if code is None:
                raise
            return code


def _code_of_an_interruption(error: BaseException) -> int | None:
    """The exit code of what interrupted the work. After a signal, a library may have raised an error of its own."""
    if (code := stopping.signal_code()) is not None:
        return code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return error.code if isinstance(error, SystemExit) and error.code in _ENDED_BY else None


def _explain(error: BaseException) -> int | None:
    """Say what an exception means; the exit code. None for a bug."""
    if isinstance(error, UserError):
        return complain(str(error), USAGE)
    if (missing := missing_extra(error)) is not None:
        return complain(missing, USAGE)
    if isinstance(error, RunFailure):
        return complain(str(error), FAILED)
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()  # the reader of our output is gone; the interpreter must not report that either
        return FAILED
    if _is_want_of_memory(error):
        return complain(
            f"memory ran out{_limit_of_the_shell() or '; close other programs'}, or use a smaller --model", FAILED
        )
    if not isinstance(error, OSError):
        return None
    if error.errno == errno.ENAMETOOLONG:
        name = str(error.filename or "a path")
        shown = name if len(name) <= _SHOWN_NAME else f"{name[:_SHOWN_NAME]}..."
        limit = "a file system takes at most 255 bytes for the name of a file or folder, and some 4,000 for a path"
        return complain(f"{shown}: too long ({limit}); choose a shorter one", USAGE)
    if error.filename is None and not _in_a_folder():
        return complain("the current folder was deleted; change to another one with cd, then run this again", USAGE)
    place = f"{error.filename}: " if error.filename else ""
    return complain(f"{place}{error.strerror or error}", FAILED)


def _is_want_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, also while a library was loaded."""
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and "failed to map segment" in str(error)):
        return True
    from tuneoff.results.failures import is_out_of_memory  # imports much, which is not needed for a mistake in a flag

    return is_out_of_memory(error)


def _limit_of_the_shell() -> str:
    """The limit on memory that this program was started with, and what to do; empty without one."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return "" if most == resource.RLIM_INFINITY else f": the shell allows {most / 1e9:.1f} GB; raise that (ulimit -v)"


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
    say(f"tuneoff: {message}")
    return code


def _take_every_character() -> None:
    """Output never fails because of a character. Files and pipes get UTF-8, as all files of tuneoff; a terminal keeps
    its encoding, and a character that it lacks is escaped."""
    for each in (sys.stdout, sys.stderr):
        stream = each.stream if isinstance(each, LastingStream) else each
        if isinstance(stream, io.TextIOWrapper):  # in tests, and without a console, they may be something else
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")
