"""File operations of a process below one folder: counted, and made to fail or to be the last thing that it does.

Python reports each operation to an audit hook before it is carried out. Hooks cannot be removed, so `in_fork` does the
work in a child. What native code does, such as writing tensors, is not seen; the rename that follows is.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}


@dataclass(frozen=True)
class Fault:
    """What happens at operation number `at` (from 1): the process is killed, or the operation fails with `errno`."""

    at: int
    errno: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a child ended. `code` follows subprocess: minus the number of the signal that killed it."""

    code: int
    operations: tuple[str, ...]
    output: str


def in_fork(work: Callable[[], None], root: Path, scratch: Path, fault: Fault | None = None) -> Outcome:
    """Do `work` in a fork of this process, with `fault` at an operation below `root`.

    `scratch` is a folder outside `root`. An exception of `work` is exit code 1, with the traceback in `output`.
    """
    log, output = scratch / "operations", scratch / "output"
    for path in (log, output):
        path.write_text("")
    pid = os.fork()
    if pid == 0:
        _work_and_exit(work, root, log, output, fault)
    _, status = os.waitpid(pid, 0)
    lines = tuple(log.read_text().splitlines())
    return Outcome(os.waitstatus_to_exitcode(status), lines, output.read_text(errors="replace"))


def _work_and_exit(work: Callable[[], None], root: Path, log: Path, output: Path, fault: Fault | None) -> None:
    code = 1
    try:
        for stream in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), stream)
        _watch(root, os.open(log, os.O_WRONLY | os.O_APPEND), fault)
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _watch(root: Path, log: int, fault: Fault | None) -> None:
    count = 0
    below = str(root) + os.sep

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        path = changed_path(event, arguments)
        if path is None or not (path == str(root) or path.startswith(below)):
            return
        count += 1
        os.write(log, f"{event} {os.path.relpath(path, root)}\n".encode())
        if fault is None or count != fault.at:
            return
        if fault.errno is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            raise OSError(fault.errno, os.strerror(fault.errno), path)

    sys.addaudithook(hook)


def changed_path(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The path that an operation changes; None for what only reads."""
    if event == "open":
        path, mode, flags = arguments
        writes = (
            any(sign in mode for sign in "wax+") if isinstance(mode, str) else bool(flags & (os.O_WRONLY | os.O_RDWR))
        )
        return str(Path(os.fsdecode(path)).absolute()) if writes and isinstance(path, str | bytes) else None
    if event in _CHANGES and isinstance(arguments[0], str | bytes | os.PathLike):
        return str(Path(os.fsdecode(arguments[0])).absolute())
    return None
