import tracemalloc

import pytest
from pydantic import ValidationError

from tuneoff.results.packed_points import PackedPoints, column
from tuneoff.results.run_record import Curve, Resources, TimelinePoint, TrainPoint


def point(step: int, loss: float = 1.5) -> TrainPoint:
    return TrainPoint(
        step=step, epoch=step / 7, seconds=float(step), loss=loss, learning_rate=1e-3, grad_norm=1.0, tokens=7
    )


POINTS = tuple(point(step) for step in range(1, 6))


def test_points_come_back_as_they_went() -> None:
    packed = Curve(train=POINTS).train
    assert isinstance(packed, PackedPoints)
    assert packed == POINTS
    assert packed == POINTS
    assert packed != POINTS[:-1]
    assert (packed[0], packed[-1], packed[1:3], packed[::-1]) == (POINTS[0], POINTS[-1], POINTS[1:3], POINTS[::-1])
    assert Curve(train=packed) == Curve(train=POINTS)
    assert hash(Curve(train=packed)) == hash(Curve(train=POINTS))
    assert list(column(packed, "step")) == column(POINTS, "step") == [1, 2, 3, 4, 5]
    with pytest.raises(IndexError):
        packed[5]


def test_they_are_stored_as_a_list_of_objects() -> None:
    curve = Curve(train=POINTS)
    assert curve.model_dump(mode="json")["train"] == [one.model_dump(mode="json") for one in POINTS]
    assert Curve.model_validate_json(curve.model_dump_json()) == curve
    assert Curve.model_validate(curve.model_dump()) == curve


def test_a_number_that_was_not_measured_stays_none() -> None:
    timeline = tuple(
        TimelinePoint(seconds=at, phase="train", memory_bytes=9, cpu=1.0, accelerator=use)
        for at, use in ((1.0, None), (2.0, 0.5))
    )
    resources = Resources(phases={}, peak_memory_bytes=9, threads=1, timeline=timeline)
    assert resources.timeline == timeline
    assert [one.accelerator for one in resources.timeline] == [None, 0.5]
    assert Resources.model_validate_json(resources.model_dump_json()) == resources


def test_an_odd_record_is_read_or_refused_and_never_a_traceback() -> None:
    huge = {**point(1).model_dump(), "step": 10**18}
    assert Curve.model_validate({"train": [huge]}).train[0].step == 10**18
    with pytest.raises(ValidationError):
        Curve.model_validate({"train": [{**huge, "step": 2**70}]})
    with pytest.raises(ValidationError):
        Curve.model_validate({"train": [{"step": 1}]})
    with pytest.raises(ValidationError):
        Curve.model_validate_json('{"train": 3}')


def test_many_points_take_little_memory() -> None:
    text = Curve(train=tuple(point(step, step / 3) for step in range(1, 2001))).model_dump_json()
    Curve.model_validate_json(text)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        held = Curve.model_validate_json(text)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(held.train) == 2000
    assert used < 2000 * 100
