"""Speeds from the events of a run. The probe's tests use them as a whole."""

from pathlib import Path

import pytest

from support.fake_runs import job
from tuneoff.results.events import Event, Generated, Note, PhaseStarted, StepDone, Validated
from tuneoff.study.executor import SilentObserver
from tuneoff.study.run_timing import RunTiming, StepTimes, TimeIsUp, TimingObserver


def step(number: int, seconds: float, tokens: int = 100) -> StepDone:
    return StepDone(
        step=number, steps=9, epoch=0.1, loss=1.0, learning_rate=1e-3, grad_norm=1.0, tokens=tokens, seconds=seconds
    )


def test_the_first_step_is_no_steady_one() -> None:
    timing = RunTiming(job(Path("x")), began=0.0)
    for event in (PhaseStarted(phase="train", seconds=5.0), step(1, 13.0), step(2, 17.0, 200), step(3, 19.0)):
        timing.take(event)
    assert timing.steps == StepTimes((0.02, 0.02), (8.0, 100.0))
    assert timing.steps.per_token == 0.02
    assert timing.steps.warm_up == 6.0
    assert timing.steps.spread == 0


def test_validation_between_steps_is_not_training() -> None:
    timing = RunTiming(job(Path("x")), began=0.0)
    events: list[Event] = [
        PhaseStarted(phase="train", seconds=5.0),
        step(1, 6.0),
        PhaseStarted(phase="evaluate", seconds=6.0),
        Validated(step=1, epoch=1, loss=1, best=True, seconds=9.0),
        PhaseStarted(phase="train", seconds=9.5),
        step(2, 10.5),
    ]
    for event in events:
        timing.take(event)
    assert timing.steps.steady == (0.01,)
    assert timing.checked == (6.0, 9.0)


def test_spread_and_median() -> None:
    assert StepTimes((1.0, 1.1, 3.0)).spread == pytest.approx(2.0 / 1.1)
    assert StepTimes((1.0, 1.1, 3.0)).per_token == 1.1
    assert StepTimes((), (8.0, 4.0)).per_token == 2.0
    assert StepTimes((), (8.0, 4.0)).warm_up == StepTimes().per_token == 0.0
    assert StepTimes((1.0,), (2.0, 1.0)).joined(StepTimes((3.0,), (5.0, 1.0))) == StepTimes((3.0, 1.0), (2.0, 1.0))


def test_the_deadline_waits_until_something_is_known() -> None:
    now = [0.0]
    watch, own = TimingObserver(SilentObserver(), lambda: now[0], deadline=10.0), job(Path("x"))
    watch.started(own)
    now[0] = 50.0
    watch.event(own, PhaseStarted(phase="load", seconds=1.0))
    watch.event(own, PhaseStarted(phase="train", seconds=2.0))
    watch.event(own, Note(text="slow"))
    with pytest.raises(TimeIsUp):
        watch.event(own, step(1, 49.0))
    [timing] = watch.unfinished()
    speed = timing.speed(timing.steps, 100.0)
    assert speed is not None
    assert (speed.start, speed.step) == (2.0, 47.0)


def test_texts_that_were_written_before_the_end_count() -> None:
    timing = RunTiming(job(Path("x")), began=0.0)
    for event in (
        PhaseStarted(phase="evaluate", seconds=3.0),
        Validated(step=0, epoch=0, loss=1, best=True, seconds=4.0),
        PhaseStarted(phase="generate", seconds=5.0),
        Generated(done=4, total=24, seconds=9.0),
    ):
        timing.take(event)
    speed = timing.speed(timing.steps, 100.0)
    assert speed is not None
    assert (speed.start, speed.step, speed.check, speed.write) == (3.0, 0.0, 1.0, 1.0)
    assert RunTiming(job(Path("x")), began=0.0).speed(StepTimes(), 1.0) is None
