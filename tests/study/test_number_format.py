"""One number format for a whole study: that of its plan, of its finished runs, or by the processor."""

from pathlib import Path

import pytest

from support.planned import HASHES, record_of, study_of
from tuneoff.engine import precision
from tuneoff.engine.precision import NumberFormat
from tuneoff.results.run_record import Record, RunDetails
from tuneoff.results.study_state import PlanFile
from tuneoff.spec import ModelSpec
from tuneoff.study import number_format, planner
from tuneoff.study.number_format import decide_number_format


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine without an accelerator, whose processor says `known`, and where a measurement gives `measured`."""

    def make(known: bool | None, measured: NumberFormat | None = None) -> None:
        monkeypatch.setattr(number_format, "may_have_accelerator", lambda: False)
        for module in (number_format, precision):
            monkeypatch.setattr(module, "bf16_by_processor", lambda: known)
        monkeypatch.setattr(
            number_format, "_measured", lambda: measured if measured else pytest.fail("measured although it is known")
        )

    return make


def finished(*dtypes: str | None) -> list[Record]:
    runs = planner.plan(study_of(methods=("lora",), seeds=max(1, len(dtypes))), HASHES, {}).runs
    return [
        record_of(run).model_copy(update={"details": RunDetails(dtype=dtype)})
        for run, dtype in zip(runs, dtypes, strict=False)
    ]


def test_the_processor_decides_where_it_can(machine) -> None:
    machine(True)
    assert decide_number_format(study_of(), None, ()) == "bf16"
    machine(False)
    assert decide_number_format(study_of(), None, ()) == "fp32"
    machine(None, "bf16")
    assert decide_number_format(study_of(), PlanFile(), ()) == "bf16"


def test_models_with_a_precision_of_their_own_need_no_decision(machine) -> None:
    machine(None)
    assert decide_number_format(study_of(models=(ModelSpec(precision="bf16"),)), None, ()) is None


def test_the_format_of_the_plan_is_kept(machine) -> None:
    machine(None)
    for kept in ("fp32", "bf16"):
        assert decide_number_format(study_of(), PlanFile(number_format=kept), finished("float32")) == kept
    machine(True)
    assert decide_number_format(study_of(), PlanFile(number_format="fp32"), ()) == "fp32"
    machine(False)  # another machine, which would emulate it a hundred times slower
    assert decide_number_format(study_of(), PlanFile(number_format="bf16"), ()) == "fp32"


def test_a_study_from_before_keeps_the_format_of_its_runs(machine) -> None:
    machine(True)
    assert decide_number_format(study_of(), PlanFile(), finished("float32", "float32")) == "fp32"
    # They decided for themselves, and not alike.
    assert decide_number_format(study_of(), PlanFile(), finished("float32", "bfloat16")) == "bf16"
    assert decide_number_format(study_of(), PlanFile(), finished(None)) == "bf16"


def test_an_accelerator_is_measured_whatever_the_processor_says(machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(False, "bf16")
    monkeypatch.setattr(number_format, "may_have_accelerator", lambda: True)
    assert decide_number_format(study_of(), None, ()) == "bf16"
    assert decide_number_format(study_of(), PlanFile(number_format="bf16"), ()) == "bf16"


def test_the_measurement_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    number_format._measured.cache_clear()
    monkeypatch.setattr(number_format, "_MEASURE", "print('bf16')")
    assert number_format._measured() == "bf16"
    monkeypatch.setattr(number_format, "_MEASURE", "raise SystemExit('no torch')")
    assert number_format._measured() == "bf16"  # once for all studies of a process
    number_format._measured.cache_clear()
    assert number_format._measured() is None
    number_format._measured.cache_clear()
