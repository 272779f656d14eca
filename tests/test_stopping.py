"""Signals that ask a process to end: a command unwinds once, a run ends where it can be continued from."""

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from tuneoff import stopping
from tuneoff.stopping import Stopped, _Command, _Run

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGUSR1: 138, signal.SIGUSR2: 140}


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in CODES}
    yield
    _Run.asked = None
    assert _Command.depth == 0
    for number, handler in before.items():
        signal.signal(number, handler)


def test_each_signal_has_its_exit_code() -> None:
    assert {getattr(signal, name): code for name, code in stopping.EXIT_CODES.items()} == CODES


@pytest.mark.parametrize("number", CODES)
def test_the_first_signal_raises_and_the_second_is_survived(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    cleaned = False

    def work() -> None:
        nonlocal cleaned
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)  # before anybody could react
            stopping.begin_ending()
            _Command.raised = -10.0  # long ago
            os.kill(os.getpid(), number)
            cleaned = True

    with pytest.raises((KeyboardInterrupt, SystemExit)) as raised, stopping.signals_raise():
        work()
    assert cleaned
    assert stopping.signal_code() == CODES[number]
    assert isinstance(raised.value, KeyboardInterrupt) or getattr(raised.value, "code", None) == CODES[number]
    assert signal.getsignal(number) == before


def test_a_signal_whose_exception_was_swallowed_can_be_sent_again() -> None:
    with stopping.signals_raise():
        for _ in range(2):
            with pytest.raises(SystemExit):
                os.kill(os.getpid(), signal.SIGTERM)
            _Command.raised = -10.0


@pytest.mark.parametrize("number", CODES)
def test_what_a_signal_raised_is_raised_again_if_it_was_lost(number: signal.Signals) -> None:
    stopping.raise_again()
    with stopping.signals_raise():
        stopping.raise_again()
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), number)
        with pytest.raises((KeyboardInterrupt, SystemExit)) as raised:
            stopping.raise_again()
        assert isinstance(raised.value, KeyboardInterrupt) or getattr(raised.value, "code", None) == CODES[number]
        stopping.begin_ending()
        stopping.raise_again()


def test_what_is_ignored_stays_ignored() -> None:
    """`nohup` ignores SIGHUP, a shell without job control SIGINT."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stopping.signals_raise():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)
    stopping.leave_to_the_system(0)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_the_handler_that_a_calling_program_has_for_itself_stays(number: signal.Signals) -> None:
    """Of batch systems' libraries, for example, or of a server."""
    received: list[int] = []
    signal.signal(number, lambda number, _frame: received.append(number))
    with stopping.signals_raise():
        os.kill(os.getpid(), number)
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
    assert received == [number]


def test_only_the_outermost_context_restores_the_handlers() -> None:
    with stopping.signals_raise():
        ours = signal.getsignal(signal.SIGTERM)
        with stopping.signals_raise():
            pass
        assert signal.getsignal(signal.SIGTERM) is ours
    assert signal.getsignal(signal.SIGTERM) is not ours


def test_signals_are_ignored_during_a_cleanup() -> None:
    with stopping.signals_raise():
        with stopping.signals_ignored():
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_ends_at_once_or_where_it_checks() -> None:
    stopping.check()
    with pytest.raises(Stopped) as stopped:
        stopping.request_stop(signal.SIGHUP)
    assert stopped.value.code == 129
    stopping.request_stop(signal.SIGTERM)  # a second request does nothing
    _Run.asked = None
    reached = []

    def work() -> None:
        stopping.request_stop(signal.SIGTERM)
        with stopping.stop_deferred():
            reached.append("inner")
        reached.append("outer")

    with pytest.raises(Stopped), stopping.stop_deferred():
        work()
    assert reached == ["inner", "outer"]
    with pytest.raises(Stopped):
        stopping.check()
