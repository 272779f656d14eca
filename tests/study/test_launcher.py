"""What the processes of runs are given to start with."""

import runpy
import subprocess
import sys

import pytest

from tuneoff.engine import precision
from tuneoff.study import launcher


def _variables(processes: int) -> dict[str, str]:
    return launcher._environment(launcher.Layout(processes, 1))


_HEARS_THE_SECOND = """
import signal, sys, time
heard = []
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7) if heard else heard.append(1))
print(flush=True)
time.sleep(60)
"""


def test_a_request_to_stop_that_is_lost_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when it comes before the fork has ended: the run would work on until it is killed, and lose its state."""
    monkeypatch.setattr(launcher, "SEND_AGAIN_SECONDS", 0.05)
    child = subprocess.Popen([sys.executable, "-c", _HEARS_THE_SECOND], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()

    class Server:
        def answer(self, timeout: float) -> dict[str, int] | None:
            try:
                return {"exit": child.wait(timeout)}
            except subprocess.TimeoutExpired:
                return None

    launcher.Forked(Server(), child.pid).stop()  # type: ignore[arg-type]
    child.stdout.close()
    assert child.wait() == 7


@pytest.mark.parametrize("name", sorted(launcher.RUNTIME))
def test_runs_get_what_suits_the_runtime_and_a_users_own_value_wins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    assert _variables(2)[name] == launcher.RUNTIME[name]
    monkeypatch.setenv(name, "mine")
    assert _variables(2)[name] == "mine"


@pytest.mark.parametrize(("units", "name"), [(True, "GOMP_SPINCOUNT"), (False, "OMP_WAIT_POLICY")])
def test_threads_spin_where_they_share_every_product(units: bool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_matrix_units", lambda: units)
    assert {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & runpy.run_path(launcher.__file__)["RUNTIME"].keys() == {name}


def test_warnings_of_libraries_end_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    assert "PYTHONWARNINGS" not in _variables(1)
