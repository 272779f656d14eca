"""Preloaded by a server whose second fork is refused, as by a limit on the number of processes."""

import os

_fork, _calls = os.fork, 0


def fork() -> int:
    global _calls
    _calls += 1
    if _calls == 2:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return _fork()


os.fork = fork
