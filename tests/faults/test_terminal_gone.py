"""The terminal goes away while a study works, or the reader of its messages: it goes on, or keeps its work and ends."""

import contextlib
import os
import pty
import random
import signal
import time
from collections import Counter

from support.warm_command import Prepare, Role, Running, WarmCommand
from support.warm_study import WarmStudy
from tuneoff import cli, stopping

_END_SECONDS = 120.0
# In its first moments, before it takes signals, the system ends the command.
CLOSED_BY = (stopping.EXIT_CODES["SIGHUP"], -signal.SIGHUP, cli.DONE)


class Watched:
    """A terminal, or a pipe, that somebody reads what a command prints from, until he leaves."""

    def __init__(self, *, terminal: bool) -> None:
        self._reading, self._writing = pty.openpty() if terminal else os.pipe()
        os.set_blocking(self._reading, False)
        self._name = os.ttyname(self._writing) if terminal else None
        self.shown = b""

    def streams(self) -> list[int]:
        """In the process of the command, which leads a session: what it opens first becomes its terminal."""
        if self._name is not None:
            return [os.open(self._name, os.O_RDWR)] * 3
        return [os.open(os.devnull, os.O_RDONLY), self._writing, self._writing]

    def watch(self, running: Running, marks: int) -> None:
        """Read until the command has written so many marks, or has ended."""
        end = time.monotonic() + _END_SECONDS
        while running.wait(0.02) is None and len(running.marks) < marks and time.monotonic() < end:
            with contextlib.suppress(OSError):  # nothing is there, or the command has ended
                self.shown += os.read(self._reading, 1 << 16)

    def leave(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


def on_a_terminal(role: Role) -> None:
    if role == "parent":
        os.environ["TERM"] = "xterm-256color"
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            os.environ.pop(name, None)


def on_a_terminal_that_may_go(role: Role) -> None:
    """As by `nohup` or `disown`."""
    on_a_terminal(role)
    if role == "parent":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


KINDS: dict[str, Prepare] = {
    "ignored": on_a_terminal_that_may_go,
    "a pipe": on_a_terminal,
    "not ignored": on_a_terminal,
}


def test_a_terminal_that_goes_away_costs_nothing(warm_study: WarmStudy, full: bool, seed: int) -> None:
    draw, codes = random.Random(22 + seed), Counter[tuple[str, int | None]]()
    command = WarmCommand(
        [word for word in warm_study.command.arguments if word != "--quiet"], warm_study.folder, warm_study.output
    )
    trials = 60 if full else 1
    for trial in range(trials):
        kind = list(KINDS)[trial % len(KINDS)]
        watched = Watched(terminal=kind != "a pipe")
        running = command.start(KINDS[kind], streams=watched.streams)
        number = draw.randint(1, len(warm_study.marks))
        watched.watch(running, number)
        watched.leave()
        code = running.wait()
        where = f"trial {trial}, {kind}, gone after mark {number}: {code}, {watched.shown[-500:]!r}"
        assert running.all_ended(), f"{where}: a process is still there"
        # What the command has found could not be shown, which is a failure; the study is complete all the same.
        assert code in (CLOSED_BY if kind == "not ignored" else (cli.FAILED, cli.DONE)), where
        if code != cli.DONE and kind == "not ignored":
            last = warm_study.finished()
            assert last.code == 0, f"{where}: {last.said}"
            assert "damaged" not in last.said, f"{where}: {last.said}"
        assert not warm_study.faults(), f"{where}: {warm_study.faults()}"
        warm_study.remove()
        print(f"trial {trial}: {kind}, {code}", flush=True)
        codes[kind, code] += 1
    print(f"{trials} trials, {dict(codes)}")
