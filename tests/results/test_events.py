import json
import math
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from support.planned import HASHES, record_of, study_of
from tuneoff import regular_files
from tuneoff.errors import UserError
from tuneoff.results import events
from tuneoff.results.events import (
    Event,
    EventWriter,
    Finished,
    Follower,
    Generated,
    Note,
    PhaseStarted,
    RunSoFar,
    Sampled,
    StepDone,
    Validated,
    events_of,
    read_events,
)
from tuneoff.results.run_record import Curve, TrainPoint, ValidationPoint
from tuneoff.results.step_thinning import MOST_POINTS
from tuneoff.study import planner


def step(number: int, loss: float = 2.0) -> StepDone:
    return StepDone(
        step=number, steps=9, epoch=0.1, loss=loss, learning_rate=1e-3, grad_norm=1.0, tokens=7, seconds=float(number)
    )


def validated(number: int, loss: float, best: bool) -> Validated:
    return Validated(step=number, epoch=number / 10, loss=loss, best=best, seconds=float(number))


EVERY_KIND: list[Event] = [
    PhaseStarted(phase="load", seconds=0.0),
    step(1),
    validated(1, 1.5, True),
    Sampled(seconds=0.5, phase="train", memory_bytes=10, cpu=1.5),
    Generated(done=3, total=9, seconds=2.0),
    Note(text="line\nbreak \u2028 and \x1b[31m"),
    Finished(status="finished"),
]


def test_every_kind_comes_back_as_it_went(tmp_path: Path) -> None:
    path = tmp_path / "run" / "events.jsonl"
    with EventWriter(path) as writer:
        for event in EVERY_KIND:
            writer.append(event)
    assert read_events(path) == EVERY_KIND
    assert path.read_bytes().count(b"\n") == len(EVERY_KIND)


def test_events_are_on_file_before_the_writer_is_closed(tmp_path: Path) -> None:
    with EventWriter(tmp_path / "e") as writer:
        writer.append(Note(text="now"))
        assert read_events(tmp_path / "e") == [Note(text="now")]


def test_a_loss_that_is_no_number_survives(tmp_path: Path) -> None:
    with EventWriter(tmp_path / "e") as writer:
        writer.append(step(1, math.nan))
        writer.append(step(2, math.inf))
    first, second = read_events(tmp_path / "e")
    assert isinstance(first, StepDone)
    assert isinstance(second, StepDone)
    assert math.isnan(first.loss)
    assert second.loss == math.inf


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_half_a_last_line_is_left_out_and_the_next_writer_does_not_glue_to_it(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "e"
    with EventWriter(path) as writer:
        writer.append(step(1))
        writer.append(step(2))
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_events(path) == [step(1)]
    with EventWriter(path) as writer:
        writer.append(step(3))
    # a cut of 1 takes only the line end: ending the line completes the event
    assert read_events(path) == ([step(1), step(2), step(3)] if cut == 1 else [step(1), step(3)])


def test_rubbish_between_events_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "e"
    good = step(1).model_dump_json().encode()
    path.write_bytes(b"\n".join([b"\x00\x00\xff", good, b'{"kind":"unheard of"}', b"[]", b"", good, b""]))
    assert read_events(path) == [step(1), step(1)]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with EventWriter(tmp_path / "events.jsonl") as writer, Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), writer._stream.fileno())
        with pytest.raises(OSError, match=r"No space left.*events\.jsonl"):
            writer.append(step(1))


def test_no_file_has_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none") == []


def test_follower_gives_each_event_once_whatever_the_pieces(tmp_path: Path) -> None:
    path = tmp_path / "e"
    follower = Follower(path)
    assert list(follower.poll()) == []
    data = b"".join(event.model_dump_json().encode() + b"\n" for event in EVERY_KIND)
    seen: list[Event] = []
    for start in range(0, len(data), 11):
        with path.open("ab") as stream:
            stream.write(data[start : start + 11])
        seen += follower.poll()
    assert seen == EVERY_KIND
    assert list(follower.poll()) == []


def test_follower_starts_again_when_the_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "e"
    follower = Follower(path)
    with EventWriter(path) as writer:
        writer.append(step(1))
        writer.append(step(2))
    assert len(list(follower.poll())) == 2
    path.unlink()
    with EventWriter(path) as writer:
        writer.append(step(3))
    assert list(follower.poll()) == [step(3)]


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "e"
    with EventWriter(path) as writer:

        def work() -> None:
            for number in range(200):
                writer.append(step(number))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read_events(path)) == 800


def test_curve_keeps_the_best_and_leaves_out_what_is_not_finite() -> None:
    events: list[Event] = [
        step(1),
        validated(1, 3.0, True),
        step(2, math.nan),
        validated(2, 2.0, True),
        validated(3, 2.5, False),
        validated(4, math.nan, False),
    ]
    curve = RunSoFar(events).curve()
    assert [point.step for point in curve.train] == [1]
    assert [point.loss for point in curve.validation] == [3.0, 2.0, 2.5]
    assert (curve.best_step, curve.best_epoch, curve.best_validation_loss) == (2, 0.2, 2.0)
    assert RunSoFar().curve().best_step is None


def test_what_is_known_of_a_run_does_not_grow_with_its_steps() -> None:
    so_far = RunSoFar()
    for number in range(1, 3 * MOST_POINTS):
        so_far.take(step(number))
    so_far.take(Note(text="odd"))
    assert len(so_far.curve().train) <= MOST_POINTS
    assert so_far.curve().steps == 3 * MOST_POINTS - 1
    assert so_far.step == step(3 * MOST_POINTS - 1)
    assert so_far.notes == ["odd"]


def test_a_follower_holds_one_event_at_a_time(tmp_path: Path) -> None:
    def peak(events: int) -> int:
        path = tmp_path / str(events)
        with EventWriter(path) as writer:
            for number in range(events):
                writer.append(step(number))
        tracemalloc.start()
        try:
            assert sum(1 for _ in Follower(path).poll()) == events
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # what is built at the first use
    assert peak(4000) < 1.5 * peak(1000)


@pytest.mark.parametrize("number", ['"Infinity"', '"NaN"', "1e308", str(10**400), "-1e41"])
@pytest.mark.parametrize("kind", range(len(EVERY_KIND)))
def test_a_number_that_no_run_reports_is_left_out(kind: int, number: str, tmp_path: Path) -> None:
    """Except for losses: those of a training that diverges are whatever they are, and no curve gets them."""
    path, event = tmp_path / "e", EVERY_KIND[kind]
    numbers = [name for name, value in event if isinstance(value, int | float) and not isinstance(value, bool)]
    for name in set(numbers) - {"loss", "grad_norm"}:
        odd = json.dumps({**json.loads(event.model_dump_json()), name: "HERE"}).replace('"HERE"', number)
        path.write_text(f"{odd}\n{step(1).model_dump_json()}\n")
        assert read_events(path) == [step(1)]
    assert RunSoFar([step(1, float("-1e308")), step(2, 1.0), validated(2, 1e308, True)]).curve().steps == 2


def test_a_log_that_is_a_hole_or_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular_files, "SMALL_BYTES", 1000)
    (tmp_path / "e").touch()
    os.truncate(tmp_path / "e", 10**6)
    if (tmp_path / "e").stat().st_blocks:
        pytest.skip("this file system stores holes")
    with pytest.raises(UserError, match="only 0 bytes were ever written"):
        read_events(tmp_path / "e")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").symlink_to(tmp_path / "e")
    with pytest.raises(UserError, match="a link to"):
        read_events(tmp_path / "run" / "events.jsonl")


def test_a_long_line_is_left_out_and_never_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = step(1).model_dump_json()
    monkeypatch.setattr(events, "MOST_LINE_BYTES", len(good) + 5)
    path = tmp_path / "e"
    path.write_text(good + "\n" + "0" * (len(good) + 5) * 3)
    follower = Follower(path)
    assert list(follower.poll()) == [step(1)]
    with path.open("a") as stream:
        stream.write(f"{good}\n{good}\n")  # the first is the end of the long line
    assert list(follower.poll()) == [step(1)]
    assert read_events(path) == [step(1), step(1)]


def test_a_log_that_is_made_again_says_what_the_record_says() -> None:
    points = [
        TrainPoint(
            step=step, epoch=step / 4, seconds=2.0 * step, loss=3 / step, learning_rate=1e-3, grad_norm=1, tokens=9
        )
        for step in (2, 4, 5)  # of a long training, not every step
    ]
    validation = [ValidationPoint(step=step, epoch=step / 4, seconds=2.0 * step + 1, loss=1 / step) for step in (2, 5)]
    curve = Curve(
        train=tuple(points), validation=tuple(validation), best_step=5, best_epoch=1.25, best_validation_loss=0.2
    )
    [run] = planner.plan(study_of(methods=("lora",)), HASHES, {}).runs[:1]
    record = record_of(run).model_copy(update={"curve": curve, "notes": ("a note",)})
    made = events_of(record)
    so_far = RunSoFar(made)
    assert so_far.curve() == curve
    assert so_far.notes == ["a note"]
    assert [event.covers for event in made if isinstance(event, StepDone)] == [2, 2, 1]
    assert made[-1] == Finished(status="finished")
    seconds = [event.seconds for event in made if not isinstance(event, Note | Finished)]
    assert seconds == sorted(seconds)
