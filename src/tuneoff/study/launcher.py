"""Starts the processes of runs: forked from a server that has the imports done, or spawned one by one."""

import contextlib
import difflib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol, cast

from tuneoff.engine.thread_waiting import WAITING
from tuneoff.errors import RunFailure, UserError
from tuneoff.profiling import PROCESSES_VARIABLE
from tuneoff.stopping import GRACE_SECONDS

StartMethod = Literal["forkserver", "spawn"]
START_METHOD_VARIABLE = "TUNEOFF_START_METHOD"
SERVER_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Layout:
    """How runs share the machine. `threads` is the number for each process; None: all."""

    processes: int = 1
    threads: int | None = None


WHOLE_MACHINE = Layout()


class NotStarted(Exception):
    """The process of one run could not be started. The next one may be."""


class Process(Protocol):
    """A running job."""

    pid: int
    server_died: bool
    """Whether it was ended because its server had died."""

    def wait(self, timeout: float) -> int | None:
        """Its exit code (minus the signal's number when killed), or None when it still runs after `timeout` s."""
        ...

    def stop(self) -> None:
        """End it: by SIGTERM, after the time that a state may take by SIGKILL. It has ended when this returns."""
        ...


class Launcher(Protocol):
    """Starts one job at a time."""

    def start(self, job: Mapping[str, Any], log: Path) -> Process:
        """Start a job. Raises `NotStarted` for this job, `RunFailure` if no job can be started at all."""
        ...

    def close(self) -> None: ...


def choose_start_method(wanted: str | None = None) -> StartMethod:
    """`wanted`, else the environment's TUNEOFF_START_METHOD, else what suits the system.

    Only Linux forks: system libraries of macOS do not survive it, and Windows cannot. Raises `UserError`.
    """
    place = "start_method" if wanted else START_METHOD_VARIABLE
    method = wanted or os.environ.get(START_METHOD_VARIABLE)
    if not method:
        return "forkserver" if sys.platform.startswith("linux") else "spawn"
    known = ("forkserver", "spawn") if hasattr(os, "fork") else ("spawn",)
    if method not in known:
        close = difflib.get_close_matches(method, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose {' or '.join(known)}"
        raise UserError(f"{place}: no start method {method!r} on this system; {hint}")
    return cast(StartMethod, method)


@contextlib.contextmanager
def launcher(method: StartMethod, preload: Sequence[str], layout: Layout = WHOLE_MACHINE) -> Iterator[Launcher]:
    """A launcher that is closed at the end, with everything that it has started."""
    chosen: Launcher = Forkserver(preload, layout) if method == "forkserver" else Spawner(layout)
    try:
        yield chosen
    finally:
        chosen.close()


# Figures: docs/lab_log.md. Both are read before the first line of Python runs, so the parent process sets them.
RUNTIME = {
    **WAITING,
    # glibc returns larger blocks at once. Its own threshold grows to 32 MB, and memory freed by a thread stays in use.
    # With a much lower threshold, new memory costs more than the bf16 products computed in it.
    "MALLOC_MMAP_THRESHOLD_": str(2**24),
}


# With PYTHONWARNINGS=error, a warning of a library would end a run.
_NOT_INHERITED = {"PYTHONWARNINGS"}


def _unnamed_file() -> IO[bytes]:
    """For what a server prints. Where no temporary file can be written, that is lost, but no run is."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return Path(os.devnull).open("r+b")


def _environment(layout: Layout) -> dict[str, str]:
    """This process' environment, which takes precedence over what suits the runtime libraries."""
    threads = {} if layout.threads is None else {"OMP_NUM_THREADS": str(layout.threads)}
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    return {**RUNTIME, **inherited, **threads, PROCESSES_VARIABLE: str(layout.processes)}


def _command(call: str) -> list[str]:
    """Python with the module path of this process, which runs `call` of the worker module."""
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; from tuneoff.study import worker; {call}"]


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[dict[str, Any]]:
    """Processes started inside never receive Ctrl-C, even during their start-up: an ignored signal is inherited."""
    if sys.platform == "win32":
        yield {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        return
    if threading.current_thread() is not threading.main_thread():
        yield {"start_new_session": True}  # only the main thread may ignore a signal
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield {}
    finally:
        signal.signal(signal.SIGINT, before)


def _started(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, **options)  # noqa: S603 - this very Python
    except OSError as error:  # too many processes, or too little memory
        raise NotStarted(f"the system refused a new process ({error.strerror or error})") from error


class Spawned:
    """A job in a fresh interpreter. Its stdin stays open as long as this process lives."""

    server_died = False

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def wait(self, timeout: float) -> int | None:
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        self._hang_up()
        return code

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._hang_up()

    def _hang_up(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


class Spawner:
    """Starts each job in a fresh interpreter."""

    def __init__(self, layout: Layout = WHOLE_MACHINE) -> None:
        self._layout = layout
        self._current: Spawned | None = None

    def start(self, job: Mapping[str, Any], log: Path) -> Spawned:
        with log.open("ab") as stream, _ignoring_interrupts() as options:
            process = _started(
                _command("worker.single()"),
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env=_environment(self._layout),
                **options,
            )
        self._current = Spawned(process)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once: its exit code and log say why
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        return self._current

    def close(self) -> None:
        if self._current is not None:
            self._current.stop()


class Forked:
    """A job forked from the server, which waits for it and reports its exit code."""

    def __init__(self, server: "Forkserver", pid: int) -> None:
        self._server = server
        self.pid = pid
        self.server_died = False
        self._code: int | None = None

    def wait(self, timeout: float) -> int | None:
        if self._code is None:
            answer = self._server.answer(timeout)
            if answer is not None:
                self._code = answer["exit"] if "exit" in answer else self._lost()
        return self._code

    def _lost(self) -> int:
        """The server has died, so nothing would reap its child or stop it when this process ends."""
        self.server_died = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return -signal.SIGKILL

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._code is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)
                self.wait(GRACE_SECONDS)


class Forkserver:
    """A process that has imported `preload` and forks a child for each job. Started with the first job."""

    def __init__(self, preload: Sequence[str], layout: Layout = WHOLE_MACHINE) -> None:
        self._preload = tuple(preload)
        self._layout = layout
        self._server: subprocess.Popen[bytes] | None = None
        self._server_log: IO[bytes] | None = None
        self._current: Forked | None = None
        self._buffer = b""

    def start(self, job: Mapping[str, Any], log: Path) -> Forked:
        if self._server is None or self._server.poll() is not None:
            self._boot()
        assert self._server is not None
        assert self._server.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has just died, which `_expect` reports
            self._server.stdin.write(json.dumps({**job, "log": str(log)}).encode() + b"\n")
            self._server.stdin.flush()
        self._current = Forked(self, int(self._expect("pid")))
        return self._current

    def answer(self, timeout: float | None) -> dict[str, Any] | None:
        """The server's next answer; None after `timeout` seconds without one, `{}` if the server has died."""
        assert self._server is not None
        assert self._server.stdout is not None
        pipe = self._server.stdout.fileno()
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([pipe], [], [], timeout)
            if not readable:
                return None
            data = os.read(pipe, 65536)
            if not data:
                return {}
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return cast(dict[str, Any], json.loads(line))

    def close(self) -> None:
        if self._current is not None:
            self._current.stop()
        self._end_server()

    def _boot(self) -> None:
        self._end_server()
        self._buffer = b""
        self._server_log = _unnamed_file()
        with _ignoring_interrupts() as options:
            self._server = _started(
                _command(f"worker.serve({self._preload!r})"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._server_log,
                env=_environment(self._layout),
                **options,
            )
        try:
            self._expect("ready")
        except BaseException:
            self._server.kill()  # it may be importing, and would end only afterwards
            raise

    def _expect(self, key: str) -> Any:
        answer = self.answer(None) or {}
        if key in answer:
            return answer[key]
        if "refused" in answer:
            raise NotStarted(f"the system refused a new process ({answer['refused']})")
        assert self._server is not None
        code = None if answer else self._code_of_death()
        if code is not None and code < 0:
            raise NotStarted(f"the process that starts runs was killed by signal {-code}")
        raise RunFailure(f"the process that starts runs has failed: {answer.get('error') or self._last_line()}")

    def _code_of_death(self) -> int | None:
        assert self._server is not None
        try:
            return self._server.wait(SERVER_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def _last_line(self) -> str:
        assert self._server_log is not None
        self._server_log.seek(0)
        lines = self._server_log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def _end_server(self) -> None:
        if self._server is not None:
            for stream in (self._server.stdin, self._server.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            try:
                self._server.wait(SERVER_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None
        if self._server_log is not None:
            self._server_log.close()
            self._server_log = None
