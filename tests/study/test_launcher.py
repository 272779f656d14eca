"""What the processes of runs are given to start with."""

import runpy

import pytest

from tuneoff.engine import precision
from tuneoff.study import launcher


def _variables(processes: int) -> dict[str, str]:
    return launcher._environment(launcher.Layout(processes, 1))


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
