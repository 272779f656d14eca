"""The one path of the signals that ask a process to end: SIGTERM, SIGINT (Ctrl-C), SIGHUP (the terminal is gone), and
SIGUSR1 and SIGUSR2, which batch systems send before a time limit or a preemption.

In the process of a command, the first signal raises an exception that unwinds to the command line, and later ones are
ignored while the runs are stopped. In the process of a run, a signal is a request, which `check` turns into `Stopped`
where the training can be continued from. A signal that is ignored at the start (`nohup`) stays ignored, and so does
the handler that a program which calls this package has for SIGUSR1 or SIGUSR2.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

NAMES = tuple(name for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
EXIT_CODES: dict[str, int] = {name: 128 + getattr(signal, name) for name in NAMES}
GRACE_SECONDS = 30.0  # for a run to write a state, before it is killed
# Until the first exception has reached a handler that calls `begin_ending`, a second one would replace it.
_SETTLE_SECONDS = 1.0


def _handled() -> list[signal.Signals]:
    """The signals that are not ignored, and of which a program that calls this package makes no other use."""
    handlers = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in NAMES}
    for_programs = {getattr(signal, name) for name in NAMES if name.startswith("SIGUSR")}
    return [
        number
        for number, handler in handlers.items()
        if handler is not signal.SIG_IGN and (number not in for_programs or handler in (signal.SIG_DFL, _raise))
    ]


# ---- a command ------------------------------------------------------------------------------------------------------


class _Command:
    """What signals have done to the process of a command."""

    depth = 0
    raised: float | None = None  # when an exception was raised last, in seconds of the monotonic clock
    code: int | None = None  # 128 + the number of that signal
    ending = False


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Inside, SIGINT raises KeyboardInterrupt, and the others SystemExit with 128 + their number.

    May be nested; the outermost one restores the handlers. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    if _Command.depth == 0:
        _Command.raised, _Command.code, _Command.ending = None, None, False
        before = {number: signal.signal(number, _raise) for number in _handled()}
    _Command.depth += 1
    try:
        yield
    finally:
        _Command.depth -= 1
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    if _Command.ending or (_Command.raised is not None and now - _Command.raised < _SETTLE_SECONDS):
        return
    _Command.raised, _Command.code = now, 128 + number
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def raise_again() -> None:
    """Raise what a signal has raised, if that was lost: Python drops what is raised in a destructor or a callback.

    Does nothing outside `signals_raise`, outside the main thread, and once the command is ending.
    """
    code = _Command.code
    if (
        code is None
        or _Command.ending
        or not _Command.depth
        or threading.current_thread() is not threading.main_thread()
    ):
        return
    raise KeyboardInterrupt if code == EXIT_CODES["SIGINT"] else SystemExit(code)


def signal_code() -> int | None:
    """128 + the number of the signal that has raised an exception inside `signals_raise`; None without one."""
    return _Command.code


def begin_ending() -> None:
    """From now on, signals are ignored until the outermost `signals_raise` ends."""
    _Command.ending = True


@contextlib.contextmanager
def signals_ignored() -> Iterator[None]:
    """Inside, the signals of `signals_raise` are ignored: a cleanup is to be completed."""
    before, _Command.ending = _Command.ending, True
    try:
        yield
    finally:
        _Command.ending = before or _Command.code is not None


def leave_to_the_system(code: int) -> None:
    """For the last moments of a program, when the interpreter ends: no signal may print a traceback.

    After an interruption they are ignored, so that the exit code stays.
    """
    for number in _handled():
        signal.signal(number, signal.SIG_IGN if code in EXIT_CODES.values() else signal.SIG_DFL)


# ---- a run ----------------------------------------------------------------------------------------------------------


class Stopped(SystemExit):
    """The process of a run was asked to end. Its code is 128 + the number of the signal."""


class _Run:
    """The request to the process of a run."""

    asked: int | None = None  # the number of the signal
    deferred = 0


def request_stop(number: int) -> None:
    """Ask this process to end: raises `Stopped` at once, or at the next `check` inside `stop_deferred`.

    To be called in the main thread, by the handler of a signal. Later calls do nothing.
    """
    if _Run.asked is None:
        _Run.asked = number
        if not _Run.deferred:
            check()


def check() -> None:
    """Raise `Stopped` if this process was asked to end."""
    if _Run.asked is not None:
        raise Stopped(128 + _Run.asked)


@contextlib.contextmanager
def stop_deferred() -> Iterator[None]:
    """Inside, a request only takes effect where `check` is called, and at the end. For the main thread."""
    _Run.deferred += 1
    try:
        yield
    finally:
        _Run.deferred -= 1
    if not _Run.deferred:
        check()
