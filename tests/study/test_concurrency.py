"""How many runs share the machine."""

from pathlib import Path

import pytest

from tuneoff.errors import RunFailure
from tuneoff.study import concurrency
from tuneoff.study.launcher import WHOLE_MACHINE, Layout


def test_every_even_split_is_tried() -> None:
    assert concurrency.layouts(6, 99) == [WHOLE_MACHINE, Layout(2, 3), Layout(3, 2), Layout(6, 1)]
    assert concurrency.layouts(6, 2) == [WHOLE_MACHINE, Layout(2, 3)]
    assert concurrency.layouts(1, 99) == [WHOLE_MACHINE]


@pytest.mark.parametrize(
    ("runs", "free", "rates", "chosen"),
    [
        (9, 100.0, {1: 10, 2: 14, 4: 12}, Layout(2, 2)),
        (9, 100.0, {1: 10, 2: 10.2, 4: 9}, WHOLE_MACHINE),  # too little gain for times on a shared machine
        (9, 15.0, {1: 10, 2: 14, 4: 12}, WHOLE_MACHINE),  # no memory for two
        (2, 100.0, {1: 10, 2: 14, 4: 12}, WHOLE_MACHINE),  # not worth a probe
    ],
)
def test_the_fastest_that_fits_is_chosen(
    monkeypatch: pytest.MonkeyPatch, runs: int, free: float, rates: dict[int, float], chosen: Layout
) -> None:
    monkeypatch.setattr(concurrency, "rate", lambda one, cores: rates[one.processes])
    assert concurrency.choose(runs, 10.0, free, 4) == chosen


@pytest.mark.slow
def test_the_probe_uses_processes_of_its_own() -> None:
    assert concurrency.rate(Layout(2, 1), 2, seconds=0.3) > 0


def test_a_probe_imports_nothing_from_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('code of a stranger')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        concurrency, "_WORK", 'import json, sys\nprint("ready", flush=True)\nsys.stdin.readline()\nprint(1)'
    )
    assert concurrency.rate(Layout(1, 1), 1, seconds=1.0) == 1


def test_a_probe_that_fails_while_it_works_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        concurrency, "_WORK", 'import sys\nprint("ready", flush=True)\nsys.stdin.readline()\nsys.exit(1)'
    )
    with pytest.raises(RunFailure, match="--workers 1"):
        concurrency.rate(Layout(2, 1), 2, seconds=0.1)
