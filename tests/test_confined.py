"""A call in a process with limits: its result, its refusal, and every way in which it can go wrong."""

import contextlib
import dataclasses
import os
import signal
import sys
import time

import pytest

from tuneoff.confined import LimitReached, ProcessLimits, call_confined
from tuneoff.errors import UserError

LIMITS = ProcessLimits(memory_bytes=200_000_000, cpu_seconds=1, wall_seconds=60, result_bytes=1_000_000)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked on Linux alone")


def test_a_result_of_any_size_and_a_refusal_come_back() -> None:
    assert call_confined(lambda: b"", LIMITS) == b""
    assert call_confined(lambda: b"x" * 1_000_000, LIMITS) == b"x" * 1_000_000

    def refuse() -> bytes:
        raise UserError("a.txt: damaged")

    with pytest.raises(UserError, match=r"^a\.txt: damaged$"):
        call_confined(refuse, LIMITS)


def forever() -> bytes:
    while True:
        pass


def crash() -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    return b""


def leave() -> bytes:
    os._exit(7)


def recurse() -> bytes:
    return recurse()


def sleep() -> bytes:
    time.sleep(9)
    return b""


def test_waiting_has_an_end_too() -> None:
    with pytest.raises(LimitReached, match=r"needs more than 0\.2 s$"):
        call_confined(sleep, dataclasses.replace(LIMITS, wall_seconds=0.2))


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (forever, "needs more than 1 s of computing"),
        (lambda: b"x" * 10**10, "needs more than 200 MB of memory"),
        (lambda: b"x" * 1_000_001, "gives more than 1 MB"),
        (crash, r"makes the library that reads it crash \(SIGSEGV\)"),
        (leave, r"crash \(exit code 7\)"),
        (recurse, "cannot be used .RecursionError"),
    ],
)
def test_what_takes_too_much_is_ended(work, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LimitReached, match=words):
        call_confined(work, LIMITS)
    assert capfd.readouterr() == ("", "")
    with contextlib.suppress(ChildProcessError):  # the servers of other tests are children too
        assert os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, "a child was not waited for"
