"""A command of tuneoff, given in a fork of this process, which has the slow imports done, with a server and runs of its
own: what a start does, in a second.

The server is forked too, where the program starts an interpreter; like one, it has no open files but the standard
streams and no handlers of signals. Each process writes marks of what it does into one pipe, so a fault can come at any
of them, and the end of the pipe is the end of all processes.
"""

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, cast

import pytest

from support.file_operations import changed_path
from tuneoff import cli, stopping
from tuneoff.report import figures, page
from tuneoff.report.pictures import Pictures
from tuneoff.results.events import Event, EventWriter, Sampled
from tuneoff.study import executor, launcher, worker

Role = Literal["parent", "server", "run", "helper"]
"""`helper`: a fork that reads what may be hostile."""
Prepare = Callable[[Role], None]
Streams = Callable[[], Sequence[int]]
"""Opens stdin, stdout and stderr of a command; called in its process, which leads a session."""
_END_SECONDS = 120.0
_MORE_BYTES = 6 * 10**9


@dataclass(frozen=True)
class Mark:
    """Something that a process was about to do, or had just done."""

    role: Role
    pid: int
    what: str


def nothing(_role: Role) -> None:
    """No fault."""


def limited(role: Role) -> None:
    """Not more than some gigabytes of memory, for a command that reads what may be hostile."""
    import resource

    if role == "parent":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MORE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


@contextlib.contextmanager
def quick_forks() -> Iterator[None]:
    """Forks inside need not look through all objects that are there now: the server collects garbage at its start."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def without_drawing() -> Iterator[None]:
    """Drawing takes a second, in a library with threads, which no fork has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save_charts", lambda *_arguments: Pictures((), None))
        patch.setattr(page, "study_charts", lambda *_arguments, **_named: [])
        patch.setattr(page, "_page", lambda *_arguments, **_named: "a page")
        yield


class WarmCommand:
    """A command with its arguments. Marks and output are about `folder`, which the command writes into."""

    cache: ClassVar[Path | None] = None
    """The cache folder of commands whose test sets none."""

    def __init__(self, arguments: Sequence[str], folder: Path, output: Path) -> None:
        self.arguments, self.folder, self.output = tuple(arguments), folder, output

    def start(
        self, prepare: Prepare = nothing, *, cwd: Path | None = None, streams: Streams | None = None
    ) -> "Running":
        """Start it. `prepare` is called in the process of the command, and in that of each run before it works.

        Without `streams`, what it prints goes to its output file.
        """
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _live_as_command(self, writing, prepare, cwd, streams or self._streams)
        os.close(writing)
        return Running(pid, reading, self.output)

    def _streams(self) -> list[int]:
        null = os.open(os.devnull, os.O_RDONLY)
        output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        return [null, output, output]

    def carry_out(self, prepare: Prepare = nothing) -> "Running":
        """Start it and wait for its end."""
        running = self.start(prepare)
        running.wait()
        return running


class Running:
    """A command that was started, with everything that came of it."""

    def __init__(self, pid: int, pipe: int, output: Path) -> None:
        self.pid, self._pipe, self._output = pid, pipe, output
        self.marks: list[Mark] = []
        self.code: int | None = None
        self._buffer = b""
        self._ended = False

    @property
    def said(self) -> str:
        """What it has printed so far, on stdout and stderr."""
        return self._output.read_text(errors="replace")

    def marks_until(self, seconds: float | None = None) -> Iterator[Mark]:
        """Marks as they come, until all processes have ended, or for some seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self._ended:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([self._pipe], [], [], left)[0]:
                return
            data = os.read(self._pipe, 1 << 16)
            if not data:
                self._ended = True
                os.close(self._pipe)
                return
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines:
                role, pid, what = line.decode().split(" ", 2)
                self.marks.append(Mark(cast(Role, role), int(pid), what))
                yield self.marks[-1]

    def wait_for(self, number: int, roles: Sequence[Role] = ("parent", "server", "run")) -> Mark | None:
        """Wait for the mark with this number among those of `roles`; None if the command ends before it."""
        for mark in self.marks_until(_END_SECONDS):
            number -= mark.role in roles
            if number == 0:
                return mark
        return None

    def kill(self, role: Role | Literal["group"], number: int = signal.SIGKILL) -> None:
        """Send a signal to the command, to its server or run that was started last, or to the whole group."""
        pids = {mark.role: mark.pid for mark in self.marks}
        pids["parent"] = self.pid
        with contextlib.suppress(ProcessLookupError):
            if role == "group":
                os.killpg(self.pid, number)
            elif role in pids and os.getsid(pids[role]) == self.pid:  # its number may be that of another process now
                os.kill(pids[role], number)

    def wait(self, seconds: float = _END_SECONDS) -> int | None:
        """The exit code of the command as subprocess has it; None if it still works after some seconds."""
        end = time.monotonic() + seconds
        while self.code is None and time.monotonic() < end:
            for _mark in self.marks_until(0.0 if self._ended else 0.01):
                pass
            if self._ended:
                time.sleep(0.001)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def all_ended(self, seconds: float = 5.0) -> bool:
        """Whether none of its processes is left after some seconds. What is left is killed."""
        for _mark in self.marks_until(seconds):
            pass
        if not self._ended:
            for pid in {mark.pid for mark in self.marks}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return self._ended


# ---- in the forks ---------------------------------------------------------------------------------------------------


def _live_as_command(command: WarmCommand, marks: int, prepare: Prepare, cwd: Path | None, streams: Streams) -> None:
    code = 1
    try:
        os.setsid()
        marks = _become_a_program(streams(), marks)
        if cwd is not None:
            os.chdir(cwd)
        for name in set(stopping.NAMES) - {"SIGINT"}:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        sys.unraisablehook = sys.__unraisablehook__  # pytest keeps such errors for itself
        writer = _Marks(command.folder, marks)
        writer.install()
        check = cli._check_python

        def started() -> None:  # from here on, signals are those of the program and not of the code around it
            writer.write("starts")
            check()

        vars(cli)["_check_python"] = started
        vars(executor)["launcher"] = launcher.launcher  # not the servers that tests share
        vars(executor)["out_of_memory_kills"] = lambda: 0  # a kill of ours is none by the system
        vars(launcher)["_started"] = _started_by_fork(writer)
        work = worker._work

        def prepared_work(job: dict[str, Any]) -> None:
            prepare("run")
            work(job)

        worker._work = prepared_work
        sys.argv = ["tuneoff", *command.arguments]
        prepare("parent")
        if command.cache is not None:
            os.environ.setdefault("TUNEOFF_CACHE", str(command.cache))
        with without_drawing():
            code = cli.main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        _flush_and_exit(code)


def _flush_and_exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _become_a_program(streams: Sequence[int], marks: int) -> int:
    """Have these standard streams and the marks open, and nothing else; the new number of the marks."""
    kept = [os.dup(each) for each in (*streams, marks)]
    for number, each in enumerate(kept):
        os.dup2(each, number)
    os.closerange(4, 4096)
    os.set_inheritable(3, False)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    return 3


class _Marks:
    """Writes marks: files that are renamed or written, events of runs, processes."""

    role: Role = "parent"

    def __init__(self, folder: Path, pipe: int) -> None:
        self._folder, self.pipe = str(folder), pipe

    def install(self) -> None:
        sys.addaudithook(self._hook)
        append = EventWriter.append

        def marked(writer: EventWriter, event: Event) -> None:
            append(writer, event)
            if not isinstance(event, Sampled):  # which comes at any time
                self.write(f"event {event.kind}")

        EventWriter.append = marked  # type: ignore[method-assign,assignment]
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.role = "run" if self.role == "server" else "helper"
        self.write("starts")

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = changed_path(event, arguments)
        if path is not None and path.startswith(self._folder) and "events.jsonl" not in path:
            self.write(f"{event} {os.path.relpath(path, self._folder)}")

    def write(self, what: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self.pipe, f"{self.role} {os.getpid()} {what}\n".encode())


class _ForkedServer:
    """What a launcher uses of `subprocess.Popen`."""

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("server", timeout or 0.0)
            time.sleep(0.002)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _started_by_fork(marks: _Marks) -> Callable[..., _ForkedServer]:
    def start(
        _command: Sequence[str], *, stderr: IO[bytes], env: Mapping[str, str], start_new_session: bool = False, **_: Any
    ) -> _ForkedServer:
        (their_stdin, our_stdin), (our_stdout, their_stdout) = os.pipe(), os.pipe()
        # As in subprocess, no handler runs meanwhile: what it raises in a callback of a fork would be lost.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in stopping.NAMES})
        pid = os.fork()
        if pid == 0:
            _live_as_server([their_stdin, their_stdout, stderr.fileno()], marks, env, start_new_session)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(their_stdin)
        os.close(their_stdout)
        return _ForkedServer(pid, os.fdopen(our_stdin, "wb"), os.fdopen(our_stdout, "rb"))

    return start


def _live_as_server(streams: Sequence[int], marks: _Marks, env: Mapping[str, str], start_new_session: bool) -> None:
    try:
        if start_new_session:
            os.setsid()
        for name in set(stopping.NAMES) - {"SIGINT"}:
            if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
                signal.signal(getattr(signal, name), signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        _become_a_program(streams, marks.pipe)
        marks.role = "server"
        marks.write("serves")
        os.environ.clear()
        os.environ.update(env)
        worker.serve(("tuneoff.run",))
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(0)
