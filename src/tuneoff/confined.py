"""Calls a function in a forked process with limits on memory and time, because what it reads may be hostile.

A template that never ends or a table that crashes its library then costs a refused file, not this process. Where a
process cannot be forked (Windows) or libraries do not survive it (macOS), the function is called in this process.
"""

import contextlib
import faulthandler
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from tuneoff import stopping
from tuneoff.errors import UserError

_DONE, _REFUSED, _FAILED, _NO_MEMORY = b"d", b"r", b"f", b"m"
_CHUNK = 1 << 16


@dataclass(frozen=True)
class ProcessLimits:
    """What a call may take. `memory_bytes` counts from what the process has already."""

    memory_bytes: int
    cpu_seconds: int
    wall_seconds: float
    result_bytes: int


class LimitReached(Exception):
    """A call that took more than it may, or crashed. The message continues a sentence: "needs more than 5 s"."""


def call_confined(work: Callable[[], bytes], limits: ProcessLimits) -> bytes:
    """The result of `work`, called in a forked process.

    Raises:
        UserError: `work` raised it.
        LimitReached: It took more than `limits`, raised another exception, or the process crashed.
    """
    if not sys.platform.startswith("linux"):
        return work()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of forks while other threads run; none is needed here
        child = os.fork()
    if child == 0:
        os.close(reading)
        _live_confined(work, limits, writing)
    os.close(writing)
    status = None
    try:
        answer = _read_answer(reading, limits)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(reading)
        if status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return _result(answer, os.waitstatus_to_exitcode(status), limits)


def _live_confined(work: Callable[[], bytes], limits: ProcessLimits, writing: int) -> None:
    """The life of the forked process. It never returns into the frames of its parent."""
    try:
        faulthandler.disable()  # a crash is reported by the parent, in a sentence
        for name in stopping.NAMES:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        _limit(limits)
        try:
            answer = _DONE + work()
        except UserError as error:
            answer = _REFUSED + str(error).encode("utf-8", "backslashreplace")
        except MemoryError:
            answer = _NO_MEMORY
        except Exception as error:
            line = (str(error).strip().splitlines() or [""])[0][:200]
            answer = _FAILED + f"{type(error).__name__}: {line}".encode("utf-8", "backslashreplace")
        with memoryview(answer) as left:
            done = 0
            while done < len(left):
                done += os.write(writing, left[done : done + _CHUNK])
    finally:
        os._exit(0)


def _limit(limits: ProcessLimits) -> None:
    import resource

    def lower(kind: int, value: int) -> None:
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))

    with open("/proc/self/statm", "rb") as stream:  # noqa: PTH123 - of this process, not a file of the user
        pages = int(stream.read().split()[0])
    lower(resource.RLIMIT_AS, pages * resource.getpagesize() + limits.memory_bytes)
    lower(resource.RLIMIT_CPU, limits.cpu_seconds)
    lower(resource.RLIMIT_CORE, 0)


def _read_answer(reading: int, limits: ProcessLimits) -> bytes:
    """Everything that the process writes until it ends."""
    end = time.monotonic() + limits.wall_seconds
    answer = bytearray()
    while True:
        readable, _, _ = select.select([reading], [], [], max(0.0, end - time.monotonic()))
        if not readable:
            raise LimitReached(f"needs more than {limits.wall_seconds:g} s")
        chunk = os.read(reading, _CHUNK)
        if not chunk:
            return bytes(answer)
        answer += chunk
        if len(answer) > limits.result_bytes + 1:
            raise LimitReached(f"gives more than {_size(limits.result_bytes)}")


def _result(answer: bytes, code: int, limits: ProcessLimits) -> bytes:
    kind, content = answer[:1], answer[1:]
    if code == 0 and kind == _DONE:
        return content
    text = content.decode("utf-8", "replace")
    if kind == _REFUSED:
        raise UserError(text)
    if kind == _NO_MEMORY:
        raise LimitReached(f"needs more than {_size(limits.memory_bytes)} of memory")
    if kind == _FAILED:
        raise LimitReached(f"cannot be used ({text})")
    if -code in (signal.SIGXCPU, signal.SIGKILL):
        raise LimitReached(f"needs more than {limits.cpu_seconds} s of computing")
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"exit code {code}"
    raise LimitReached(f"makes the library that reads it crash ({name})")


def _size(count: int) -> str:
    return f"{count / 1e9:g} GB" if count >= 10**9 else f"{count / 1e6:g} MB"
