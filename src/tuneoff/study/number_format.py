"""The number format of a study's models whose precision is `auto`: decided once, so that no run decides for itself.

Noise during a run's own measurement would make one run of a study compute in fp32 and the others in bf16, which is a
confound.
"""

import functools
import subprocess
import sys
from collections.abc import Iterable
from typing import get_args

from tuneoff.engine.precision import FORMAT_OF, NumberFormat, bf16_by_processor, format_to_keep
from tuneoff.profiling.machine import may_have_accelerator
from tuneoff.results.run_record import Record
from tuneoff.results.study_state import PlanFile
from tuneoff.spec import StudySpec

_MEASURE = (
    "from tuneoff.engine.precision import has_fast_bf16, pick_device; "
    "print('bf16' if has_fast_bf16(pick_device()) else 'fp32')"
)


def decide_number_format(study: StudySpec, plan: PlanFile | None, records: Iterable[Record]) -> NumberFormat | None:
    """The format for the runs to come: that of the plan, else that of the finished runs, else what suits the machine.

    A study that continues on another machine keeps its format, unless this processor has no instructions for it. None
    if every model has a precision of its own, or if it could not be measured: then each run decides.
    """
    if all(model.precision != "auto" for model in study.models):
        return None
    known = (plan.number_format if plan else None) or _of_finished_runs(records)
    on_cpu = not may_have_accelerator()
    if known is not None:
        return format_to_keep(known, on_cpu=on_cpu)
    if on_cpu and (by_processor := bf16_by_processor()) is not None:
        return "bf16" if by_processor else "fp32"
    return _measured()


def _of_finished_runs(records: Iterable[Record]) -> NumberFormat | None:
    """Of a study that was begun when runs decided for themselves; None if they did not agree."""
    found = {
        record.details.dtype
        for record in records
        if record.status == "finished" and record.spec.model.precision == "auto"
    }
    return FORMAT_OF.get(found.pop()) if len(found) == 1 else None


@functools.cache
def _measured() -> NumberFormat | None:
    """Measured in a process of its own, because torch would stay in this one until the end of the study."""
    code = f"import sys; sys.path[:] = {sys.path!r}; {_MEASURE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603 - this very Python
    answer = done.stdout.strip()
    return next((each for each in get_args(NumberFormat) if each == answer), None)
