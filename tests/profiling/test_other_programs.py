"""The processor time of other programs: known readings, and a process that is not ours."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tuneoff.profiling.other_programs import OtherPrograms, OtherProgramsMeter, ProcessorTimes, read_processor_times


def meter(first: ProcessorTimes | None, last: ProcessorTimes | None) -> OtherProgramsMeter:
    readings: Iterator[ProcessorTimes | None] = iter((first, last))
    return OtherProgramsMeter(lambda: next(readings))


def test_what_is_not_ours_is_of_others() -> None:
    first = ProcessorTimes(clock=100.0, busy=1000.0, own=50.0, cores=2)
    assert meter(first, ProcessorTimes(110.0, 1018.0, 55.0, 2)).measure() == OtherPrograms(1.3, 2)
    assert meter(first, ProcessorTimes(110.0, 1018.0, 68.5, 2)).measure() == OtherPrograms(0.0, 2)  # ticks are rounded
    assert meter(first, None).measure() is None
    assert meter(None, None).measure() is None


def test_only_much_of_the_processor_is_mentioned() -> None:
    assert OtherPrograms(0.2, 2).sentence() is None
    sentence = OtherPrograms(1.3, 2).sentence()
    assert sentence is not None
    assert sentence.startswith("other programs used 1.3 of 2 processor cores while this was measured")


@pytest.mark.skipif(sys.platform != "linux", reason="the time of ended descendants is known on Linux only")
def test_a_child_that_has_ended_is_ours() -> None:
    before = read_processor_times()
    assert before is not None
    program = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", program], check=True)
    time.sleep(0.02)  # counters move in ticks
    after = read_processor_times()
    assert after is not None
    assert after.own - before.own >= 0.45
    assert after.busy - before.busy >= 0.45
