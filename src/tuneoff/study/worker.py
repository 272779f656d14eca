"""The process that a run lives in, and the server that such processes are forked from.

Jobs arrive as JSON lines on stdin. `serve` imports the slow modules once and forks a process for each job, so each run
starts with the imports done and without state of an earlier run. `single` does one job in a fresh process.
multiprocessing's own servers are not used because they import the caller's `__main__` into every child: a script
without an `if __name__` guard would start itself again.

If the parent dies (also by kill -9), stdin closes and the run ends, because nothing would read its record.
"""

import contextlib
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
from typing import Any

from tuneoff.spec import RunSpec

POLL_SECONDS = 0.05
# proc(5): -1000..1000; a process with a higher number is taken first when memory runs out
OUT_OF_MEMORY_SCORE = "500"
STDIN, STDOUT, STDERR = 0, 1, 2


def serve(preload: Sequence[str]) -> None:
    """Import `preload`, answer `ready`, then for each job: fork, answer its `pid`, wait, answer its `exit` code.

    Answers are JSON lines on stdout. Exit codes follow subprocess: minus the number of the signal that killed.
    """
    answers = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)  # what modules print during their import is not an answer
    try:
        for module in preload:
            importlib.import_module(module)
    except BaseException as error:
        _answer(answers, {"error": "".join(traceback.format_exception_only(error)).strip()})
        raise
    gc.collect()
    gc.freeze()  # the collector of a child must not touch, and so copy, pages shared with this process
    _answer(answers, {"ready": True})
    for line in iter(sys.stdin.buffer.readline, b""):
        pid = os.fork()
        if pid == 0:
            os.close(answers)
            os.close(_leave_stdin())
            _log_to(Path(json.loads(line)["log"]))
            _work_and_exit(line)
        _answer(answers, {"pid": pid})
        _answer(answers, {"exit": _wait(pid)})


def single() -> None:
    """Read one job, carry it out, exit with its code. stdout and stderr already go to the log."""
    line = sys.stdin.buffer.readline()
    lifeline = _leave_stdin()
    threading.Thread(target=_exit_with_parent, args=(lifeline,), daemon=True).start()
    _work_and_exit(line)


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


def _exit_with_parent(lifeline: int) -> None:
    while os.read(lifeline, 1):
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
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OUT_OF_MEMORY_SCORE)
        _work(json.loads(line))
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _work(job: dict[str, Any]) -> None:
    module, _, function = job["target"].partition(":")
    do = getattr(importlib.import_module(module), function)
    do(RunSpec.model_validate(job["spec"]), Path(job["folder"]), job["run_id"], job["name"])
