"""What the processes of runs are given to start with."""

import signal
import time
from pathlib import Path

import pytest

from support.fake_runs import PRELOAD, job
from tuneoff.stopping import GRACE_SECONDS
from tuneoff.study import launcher


def _variables(processes: int) -> dict[str, str]:
    return launcher._environment(launcher.Layout(processes, 1))


def test_a_request_to_stop_right_after_the_fork_is_heard(tmp_path: Path) -> None:
    """Python forgets a signal that comes before its own work after a fork is done; the run would then work on."""
    hanging = job(tmp_path)
    message = {
        "spec": hanging.spec.model_dump(mode="json"),
        "run_id": hanging.run_id,
        "name": hanging.name,
        "folder": str(tmp_path),
        "target": "support.fake_runs:hang",
    }
    with launcher.launcher("forkserver", PRELOAD) as started:
        for _ in range(10):
            process = started.start(message, tmp_path / "log.txt")
            began = time.monotonic()
            process.stop()
            assert process.wait(0) == 128 + signal.SIGTERM
            assert time.monotonic() - began < GRACE_SECONDS / 2


@pytest.mark.parametrize("name", sorted(launcher.RUNTIME))
def test_runs_get_what_suits_the_runtime_and_a_users_own_value_wins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    assert _variables(2)[name] == launcher.RUNTIME[name]
    monkeypatch.setenv(name, "mine")
    assert _variables(2)[name] == "mine"


def test_warnings_of_libraries_end_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    assert "PYTHONWARNINGS" not in _variables(1)
