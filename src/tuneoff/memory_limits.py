"""How much memory this process may use: that of the machine, or less in a container or a job of a scheduler.

Docker, Kubernetes and SLURM set limits by control groups of Linux (`memory.max` of version 2, `memory.limit_in_bytes`
of version 1). Beyond a limit the system kills a process, without an error that it could handle.
"""

from collections.abc import Iterator
from pathlib import Path

import psutil

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
_NONE = 1 << 60  # version 1 writes a number near 2^63 where there is no limit


def total_memory() -> int:
    """Bytes that all processes together may use."""
    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _limits())])


def available_memory() -> int:
    """Bytes that can still be used."""
    return min([int(psutil.virtual_memory().available), *(max(0, limit - used) for limit, used in _limits())])


def _limits() -> Iterator[tuple[int, int]]:
    """(limit, used) of each group that this process is in. What the system can drop at once does not count as used."""
    for group, limit_file, used_file, droppable in _groups():
        limit = _number(group / limit_file)
        if limit is not None and limit < _NONE:
            yield limit, (_number(group / used_file) or 0) - _of_statistics(group / "memory.stat", droppable)


def _groups() -> Iterator[tuple[Path, str, str, str]]:
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if kinds == "":
            names, root = ("memory.max", "memory.current", "inactive_file"), GROUPS
        elif "memory" in kinds.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = GROUPS / "memory"
        else:
            continue
        group = root / path.lstrip("/")  # in a container it may not be there: the limit is then that of the root
        while True:
            yield group, *names
            if group == root or root not in group.parents:
                break
            group = group.parent


def _number(path: Path) -> int | None:
    """The number in a file; None without one, as for `max`."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _of_statistics(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    found = (value for key, _, value in (line.partition(" ") for line in lines) if key == name)
    return next((int(value) for value in found if value.isdecimal()), 0)
