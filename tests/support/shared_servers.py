"""Servers of runs that outlive a study: to start one takes seconds, because it imports torch."""

import contextlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from support.server_state import FOLDER_VARIABLE, state_file
from tuneoff.study import launcher
from tuneoff.study.launcher import WHOLE_MACHINE, Forked, Forkserver, Launcher, Layout, StartMethod

# Read while a server starts, so it can only serve tests that agree on them.
_READ_AT_START = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES")

OpenLauncher = Callable[..., AbstractContextManager[Launcher]]


class _SharedServer(Forkserver):
    """A server whose runs get the folder and the environment of the process that starts them."""

    def __init__(self, preload: Sequence[str], layout: Layout) -> None:
        super().__init__((*preload, "support.server_state"), layout)

    def start(self, job: Mapping[str, Any], log: Path) -> Forked:
        if self._server is None or self._server.poll() is not None:
            self._boot()
        assert self._server is not None
        path = state_file(self._server.pid)
        assert path is not None
        state = {"folder": str(Path.cwd()), "environment": launcher._environment(self._layout)}
        path.write_text(json.dumps(state), encoding="utf-8")
        return super().start(job, log)

    def release(self) -> None:
        """Stop the current run, if there is one. The server stays."""
        if self._current is not None:
            self._current.stop()


@contextlib.contextmanager
def sharing_servers(own: OpenLauncher) -> Iterator[OpenLauncher]:
    """A replacement for `launcher.launcher`, which is `own`, for runs that are forked with the usual imports."""
    idle: dict[tuple[object, ...], list[_SharedServer]] = {}
    servers: list[_SharedServer] = []
    lock = threading.Lock()

    @contextlib.contextmanager
    def open_launcher(
        method: StartMethod, preload: Sequence[str], layout: Layout = WHOLE_MACHINE
    ) -> Iterator[Launcher]:
        if method != "forkserver" or tuple(preload) != ("tuneoff.run",):
            with own(method, preload, layout) as started:
                yield started
            return
        key = (layout, tuple(sys.path), *(os.environ.get(name) for name in _READ_AT_START))
        with lock:
            free = idle.setdefault(key, [])
            if free:
                server = free.pop()
            else:
                server = _SharedServer(preload, layout)
                servers.append(server)
        try:
            yield server
        finally:
            server.release()
            with lock:
                free.append(server)

    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            yield open_launcher
        finally:
            del os.environ[FOLDER_VARIABLE]
            for server in servers:
                server.close()
