"""Threads of every process that computes wait in the same way, unless the user wants another one."""

import os
import runpy
import subprocess
import sys

import pytest

from tuneoff.engine import precision, thread_waiting
from tuneoff.engine.thread_waiting import WAITING


@pytest.mark.parametrize(("units", "name"), [(True, "GOMP_SPINCOUNT"), (False, "OMP_WAIT_POLICY")])
def test_threads_spin_where_they_share_every_product(units: bool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_matrix_units", lambda: units)
    assert runpy.run_path(thread_waiting.__file__)["WAITING"].keys() == {name}


def test_commands_that_write_texts_wait_as_runs_do() -> None:
    """Their own process loads torch, which reads the variable then."""
    [(name, value)] = WAITING.items()
    program = (
        "import os, sys; from tuneoff.cli import main; main(['summarize', 'nowhere', 'x']);"
        f"print(os.environ.get({name!r}), 'torch' in sys.modules)"
    )
    environment = {key: kept for key, kept in os.environ.items() if key != name}
    for given, expected in (({}, value), ({name: "mine"}, "mine")):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment | given
        )
        assert done.stdout == f"{expected} False\n"
