"""Preloaded by the servers that tests share: each forked run takes the folder and environment of the test it is for."""

import json
import os
from pathlib import Path

FOLDER_VARIABLE = "TUNEOFF_TEST_STATES"


def state_file(server_pid: int) -> Path | None:
    """The file that holds folder and environment of the next run of a server; None if no server is shared."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return None if folder is None else Path(folder) / f"{server_pid}.json"


def take_state() -> None:
    """Change to the folder and the environment that were written for this run."""
    path = state_file(os.getppid())
    if path is not None and path.exists():
        state = json.loads(path.read_text(encoding="utf-8"))
        os.chdir(state["folder"])
        os.environ.clear()
        os.environ.update(state["environment"])


os.register_at_fork(after_in_child=take_state)
