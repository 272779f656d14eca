"""The process that a run lives in, and the server that such processes are forked from.

Jobs arrive as JSON lines on stdin. `serve` imports the slow modules once and forks a process for each job, so each run
starts with the imports done and without state of an earlier run. `single` does one job in a fresh process.
multiprocessing's own servers are not used because they import the caller's `__main__` into every child: a script
without an `if __name__` guard would start itself again.

If the parent dies (also by kill -9), stdin closes and the run ends, because nothing would read its record. A signal
that asks a run to end is handled by `tuneoff.stopping`; the server ends with its parent only, because it would take the
run with it.
"""

import contextlib
import errno
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import BaseModel

from tuneoff import stopping
from tuneoff.beside import beside
from tuneoff.spec import RunSpec

POLL_SECONDS = 0.05
ORPHAN_SECONDS = 0.5
# proc(5): -1000..1000; a process with a higher number is taken first when memory runs out
OUT_OF_MEMORY_SCORE = "500"
STDIN, STDOUT, STDERR = 0, 1, 2
# Exit codes of a run that could not even write its record: its log is on the same disk.
NO_ROOM = {errno.ENOSPC: errno.ENOSPC, errno.EDQUOT: errno.ENOSPC, errno.EFBIG: errno.EFBIG}


def build_models(base: type[BaseModel]) -> None:
    """Build tuneoff's models below `base`, which otherwise happens when each is first used: in every fork again."""
    for model in base.__subclasses__():
        if model.__module__.startswith("tuneoff."):
            model.model_rebuild()
        build_models(model)


def serve(preload: Sequence[str]) -> None:
    """Import `preload`, answer `ready`, then for each job: fork, answer its `pid`, wait, answer its `exit` code.

    Answers are JSON lines on stdout. Exit codes follow subprocess: minus the number of the signal that killed. If the
    system refuses to fork, the answer is why (`refused`).
    """
    _take_signals(server=os.getpid())
    answers = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)  # what modules print during their import is not an answer
    try:
        with _ending_with_the_parent():
            for module in preload:
                importlib.import_module(module)
            build_models(BaseModel)
    except BaseException as error:
        _answer(answers, {"error": "".join(traceback.format_exception_only(error)).strip()})
        raise
    gc.collect()
    gc.freeze()  # the collector of a child must not touch, and so copy, pages shared with this process
    _answer(answers, {"ready": True})
    for line in iter(sys.stdin.buffer.readline, b""):
        server = os.getpid()
        _hold_signals()  # one that comes in the moment of the fork, Python would lose; `_work_and_exit` takes it
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or too little memory
            _answer(answers, {"refused": error.strerror or str(error)})
            continue
        if pid == 0:
            os.close(answers)
            lifeline = _leave_stdin()
            threading.Thread(target=_exit_with_server, args=(lifeline, server), daemon=True).start()
            _log_to(Path(json.loads(line)["log"]))
            _work_and_exit(line)
        _answer(answers, {"pid": pid})
        _answer(answers, {"exit": _wait(pid)})


def single() -> None:
    """Read one job, carry it out, exit with its code. stdout and stderr already go to the log."""
    _take_signals(server=None)
    line = sys.stdin.buffer.readline()
    lifeline = _leave_stdin()
    threading.Thread(target=_exit_with_parent, args=(lifeline,), daemon=True).start()
    _work_and_exit(line)


def _ending_with_the_parent() -> contextlib.AbstractContextManager[None]:
    """Inside, this process ends when its parent does, whatever it does meanwhile. No thread is left for a fork."""

    def watch(done: threading.Event) -> None:
        _hold_signals()  # for the main thread: another thread that took one would not wake it from a wait
        poller = select.poll()
        poller.register(STDIN, 0)  # a hang-up is always reported
        while not done.is_set():
            if poller.poll(POLL_SECONDS * 1000):
                os._exit(1)

    return beside(watch)


def _take_signals(server: int | None) -> None:
    """Every signal but Ctrl-C is a request to the run. The process `server` ignores them: its parent ends it."""

    def ask(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != server:
            stopping.request_stop(number)

    for name in set(stopping.NAMES) - {"SIGINT"}:  # Ctrl-C reaches the whole group, but the parent decides
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, ask)


def _answer(answers: int, what: dict[str, Any]) -> None:
    os.write(answers, json.dumps(what).encode() + b"\n")


def _wait(pid: int) -> int:
    """Exit code of a child, which is killed when stdin ends, that is, when the parent has ended."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        readable, _, _ = select.select([STDIN], [], [], POLL_SECONDS)
        if readable:  # nothing is sent while a job runs, so this is the end of stdin
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os._exit(1)


def _leave_stdin() -> int:
    """Redirect stdin to nothing, so that a library that asks a question gets no answer; returns the old descriptor."""
    lifeline = os.dup(STDIN)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), STDIN)
    sys.stdin = open(STDIN, closefd=False)  # noqa: SIM115 - for the life of the process
    return lifeline


def _hold_signals() -> None:
    """Signals that ask this thread to end wait until `_take_held_signals`. A new thread or process inherits this."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in stopping.NAMES})


def _take_held_signals() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {getattr(signal, name) for name in stopping.NAMES})


def _exit_with_parent(lifeline: int) -> None:
    _hold_signals()
    while os.read(lifeline, 1):
        pass
    os._exit(1)


def _exit_with_server(lifeline: int, server: int) -> None:
    """End this process when the parent of the server has ended, or the server, which would report the exit code."""
    _hold_signals()
    poller = select.poll()
    poller.register(lifeline, 0)  # nothing is read, because the server reads from it: a hang-up is always reported
    while not poller.poll(ORPHAN_SECONDS * 1000) and os.getppid() == server:
        pass
    os._exit(1)


def _log_to(log: Path) -> None:
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), STDOUT)
        os.dup2(stream.fileno(), STDERR)


def _work_and_exit(line: bytes) -> None:
    """Do a job and end this process without returning into the caller's frames, which belong to the server."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, but the parent decides
        faulthandler.enable()
        _take_held_signals()
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OUT_OF_MEMORY_SCORE)
        _work(json.loads(line))
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            code = NO_ROOM[error.errno]
        with contextlib.suppress(OSError):
            traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _work(job: dict[str, Any]) -> None:
    module, _, function = job["target"].partition(":")
    do = getattr(importlib.import_module(module), function)
    more = {name: job[name] for name in ("parts", "keep_texts", "number_format", "group") if name in job}
    do(RunSpec.model_validate(job["spec"]), Path(job["folder"]), job["run_id"], job["name"], **more)
