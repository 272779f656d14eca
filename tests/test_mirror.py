"""Tests mirror the package file by file: `src/tuneoff/a/b.py` is tested in `tests/a/test_b.py`.

Where that file name would not be unique in `tests/`, it is `tests/a/test_a_b.py`.
"""

from collections import Counter
from pathlib import Path

import pytest

import tuneoff

PACKAGE = Path(tuneoff.__file__).parent
TESTS = Path(__file__).parent

UNTESTED = {
    "errors.py",  # two exceptions without code
    "methods/base.py",  # every method is tested against it in methods/test_contract.py
}
# Tests of more than one module, or of what is not in the package.
MIRROR_NOTHING = {
    "benches/test_budget_bench.py",
    "benches/test_looks.py",
    "benches/test_scale.py",
    "benches/test_simulation.py",
    "data/test_data_page.py",
    "faults/test_any_content.py",
    "faults/test_broken_tracker.py",
    "faults/test_crash.py",
    "faults/test_damage.py",
    "faults/test_disk_full.py",
    "faults/test_gguf_flips.py",
    "faults/test_hostile_folder.py",
    "faults/test_hostile_model.py",
    "faults/test_hostile_texts.py",
    "faults/test_kill.py",
    "faults/test_killed_for_memory.py",
    "faults/test_killed_workers.py",
    "faults/test_not_finite.py",
    "faults/test_out_of_memory.py",
    "faults/test_permissions.py",
    "faults/test_ray_faults.py",
    "faults/test_two_machines.py",
    "faults/test_reader_flips.py",
    "faults/test_run_crash.py",
    "faults/test_large_study.py",
    "faults/test_stale_state.py",
    "faults/test_stop.py",
    "faults/test_temporary_files.py",
    "faults/test_terminal_gone.py",
    "faults/test_two_starts.py",
    "methods/test_contract.py",
    "methods/test_families.py",
    "report/test_browser.py",
    "study/test_budgeted_study.py",
    "study/test_pruned_study.py",
    "test_cluster_docs.py",
    "test_docs.py",
    "test_docs_run.py",
    "test_english.py",
    "test_example_method.py",
    "test_examples.py",
    "test_flow.py",
    "test_layers.py",
    "test_mirror.py",
    "test_names.py",
    "test_previous_version.py",
    "test_reads.py",
    "test_site.py",
    "test_tutorial.py",
    "test_wheel.py",
    "verdict/test_budget_report.py",
}


def names_of_tests(module: str) -> set[str]:
    """The files that may test a module. A package, `a/__init__.py`, may be tested in `tests/a/test_a.py`."""
    path = Path(module)
    folder = path.parent
    if path.name == "__init__.py":
        return {(folder / f"test_{folder.name}.py").as_posix()}
    return {(folder / f"test_{name}.py").as_posix() for name in (path.stem, f"{folder.name}_{path.stem}")}


MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
FILES = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py"))


def test_names_of_tests() -> None:
    assert names_of_tests("study/planner.py") == {"study/test_planner.py", "study/test_study_planner.py"}
    assert names_of_tests("metrics/__init__.py") == {"metrics/test_metrics.py"}


@pytest.mark.parametrize("module", [name for name in MODULES if Path(name).name != "__init__.py"])
def test_every_module_has_a_test_file(module: str) -> None:
    found = names_of_tests(module) & set(FILES)
    assert len(found) == (module not in UNTESTED), f"{module} is tested in {sorted(found)}"


def test_every_test_file_mirrors_a_module() -> None:
    mirrors = set().union(*map(names_of_tests, MODULES))
    assert set(FILES) - mirrors == MIRROR_NOTHING


def test_names_of_test_files_are_unique() -> None:
    assert [name for name, count in Counter(Path(file).name for file in FILES).items() if count > 1] == []
