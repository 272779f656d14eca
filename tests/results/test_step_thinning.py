import pytest

from tuneoff.results.run_record import TrainPoint
from tuneoff.results.step_thinning import MOST_POINTS, ThinnedSteps


def point(step: int) -> TrainPoint:
    return TrainPoint(
        step=step, epoch=step / 9, seconds=step / 2, loss=1 / step, learning_rate=0.1, grad_norm=1, tokens=7
    )


def kept(steps: int) -> list[int]:
    thinned = ThinnedSteps()
    for step in range(1, steps + 1):
        thinned.add(point(step))
    return [one.step for one in thinned.points]


@pytest.mark.parametrize("steps", [0, 1, 2, MOST_POINTS])
def test_a_short_training_keeps_every_step(steps: int) -> None:
    assert kept(steps) == list(range(1, steps + 1))


@pytest.mark.parametrize(
    ("steps", "stride"),
    [(MOST_POINTS + 1, 2), (MOST_POINTS + 2, 2), (2 * MOST_POINTS + 1, 4), (5 * MOST_POINTS, 8), (30_000, 16)],
)
def test_a_long_training_keeps_evenly_spaced_steps_and_the_last(steps: int, stride: int) -> None:
    expected = list(range(1, steps + 1, stride))
    assert kept(steps) == (expected if expected[-1] == steps else [*expected, steps])
    assert MOST_POINTS // 2 < len(kept(steps)) <= MOST_POINTS


@pytest.mark.parametrize("steps", [3, MOST_POINTS, MOST_POINTS + 2, 3 * MOST_POINTS])
def test_a_resumed_training_keeps_the_same_steps(steps: int) -> None:
    first = ThinnedSteps(point(step) for step in kept(steps))
    for step in range(steps + 1, 9000):
        first.add(point(step))
    assert [one.step for one in first.points] == kept(8999)


def test_reported_steps_are_few_and_describe_the_same_curve() -> None:
    whole, reported = ThinnedSteps(), []
    for step in range(1, 50_001):
        if whole.add(point(step)):
            reported.append(step)
    assert len(reported) < 4 * MOST_POINTS
    follower = ThinnedSteps()
    for step in reported:
        follower.add(point(step))
    assert follower.points == [one for one in whole.points if one.step <= reported[-1]]
