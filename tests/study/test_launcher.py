"""What the processes of runs are given to start with."""

import pytest

from tuneoff.study import launcher


def _variables(processes: int) -> dict[str, str]:
    return launcher._environment(launcher.Layout(processes, 1))


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "MALLOC_MMAP_THRESHOLD_"])
def test_runs_get_what_suits_the_runtime_and_a_users_own_value_wins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    assert _variables(2)[name] == launcher.RUNTIME[name]
    monkeypatch.setenv(name, "mine")
    assert _variables(2)[name] == "mine"


def test_warnings_of_libraries_end_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    assert "PYTHONWARNINGS" not in _variables(1)
