"""What a run reports while it works: one JSON object per line, appended to `events.jsonl`.

The process of the run appends. The parent process follows, for the progress display, for trackers, and to write the
record of a run that was killed. The record is authoritative, so a reader skips lines that cannot be read, such as the
incomplete last line of a killed process.

The file stays small: of a long training not every step is reported (`step_thinning`), and the meter takes its samples
less and less often. A reader holds one event at a time.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from tuneoff.regular_files import check_filled, check_inside, open_regular
from tuneoff.results.run_record import (
    MOST_MEASURED,
    Count,
    Curve,
    Measured,
    Number,
    Phase,
    Record,
    Status,
    TimelinePoint,
    TrainPoint,
    ValidationPoint,
)
from tuneoff.results.step_thinning import ThinnedSteps
from tuneoff.spec.run import Frozen

MOST_LINE_BYTES = 1_000_000  # a longer line is none of ours, and is left out
# JSON cannot express NaN and infinities, but a diverging loss must be reported, so they are written as strings.
_NAN_AS_TEXT = ConfigDict(ser_json_inf_nan="strings")


class PhaseStarted(Frozen):
    """The run entered `phase`, possibly again, `seconds` after the start of the run."""

    kind: Literal["phase"] = "phase"
    phase: Phase
    seconds: Number


class StepDone(Frozen):
    """One optimiser step of `steps`. `loss` in nats per target token, `seconds` since the start of the run,
    `tokens` processed in this step without padding."""

    model_config = _NAN_AS_TEXT
    kind: Literal["step"] = "step"
    step: Count
    steps: Count
    epoch: Number
    loss: float
    learning_rate: Measured
    grad_norm: float
    tokens: Count
    seconds: Number
    covers: Count = 1
    """Steps since the last report, this one included: of a long training not every step is reported."""


class Validated(Frozen):
    """Validation loss in nats per target token after `step` optimiser steps; `best` so far or not."""

    model_config = _NAN_AS_TEXT
    kind: Literal["validated"] = "validated"
    step: Count
    epoch: Number
    loss: float
    best: bool
    seconds: Number


class Sampled(TimelinePoint):
    """One sample of the meter's timeline."""

    kind: Literal["sampled"] = "sampled"


class Generated(Frozen):
    """`done` of `total` texts are generated, `seconds` after the start of the run."""

    kind: Literal["generated"] = "generated"
    done: Count
    total: Count
    seconds: Number


class Note(Frozen):
    """A warning for people."""

    kind: Literal["note"] = "note"
    text: str


class Finished(Frozen):
    """The last event of a run that was not killed."""

    kind: Literal["finished"] = "finished"
    status: Status


Event = PhaseStarted | StepDone | Validated | Sampled | Generated | Note | Finished
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])
"""Reads and writes an event of any kind."""


def events_of(record: Record) -> list[Event]:
    """The events of a run that has ended, as far as its record has them."""
    curve = record.curve
    found: list[StepDone | Validated | Sampled] = []
    reported = 0
    for step in curve.train:
        found.append(StepDone(steps=curve.steps, covers=step.step - reported, **step.model_dump()))
        reported = step.step
    found += [Validated(best=point.step == curve.best_step, **point.model_dump()) for point in curve.validation]
    if record.resources is not None:
        found += [Sampled(**point.model_dump()) for point in record.resources.timeline]
    found.sort(key=lambda event: event.seconds)
    return [*found, *(Note(text=note) for note in record.notes), Finished(status=record.status)]


class EventWriter:
    """Appends events to a file, each by one write, so a reader sees whole lines except for a killed writer's last one.

    Thread-safe. Not synced to the disk: after a power failure the last events may be missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._lock = path, threading.Lock()
        self._stream = path.open("ab", buffering=0)
        self._end_half_line(path)

    def _end_half_line(self, path: Path) -> None:
        """End the incomplete line of a writer that was killed: the next event must start on a line of its own."""
        with path.open("rb") as stream:
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    self._stream.write(b"\n")

    def append(self, event: Event) -> None:
        """Write one event. Raises `OSError` that names the file if the disk refuses."""
        line = event.model_dump_json().encode() + b"\n"
        try:
            with self._lock:
                written = self._stream.write(line)
                while written < len(line):  # a nearly full disk may take only a part
                    written += self._stream.write(line[written:])
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def close(self) -> None:
        """Close the file; appending afterwards is a `ValueError`."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_events(path: Path) -> list[Event]:
    """Every complete event of a file, in order; empty without a file."""
    return list(Follower(path).poll())


class Follower:
    """Reads a growing file of events piece by piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._in_long_line = False

    def follow(self, path: Path) -> None:
        """Go on where the file is now, after its folder was renamed."""
        self._path = path

    def poll(self) -> Iterator[Event]:
        """Events that were completed since the last one read; starts again if the file has become shorter.

        Raises `UserError` for what is not a regular file in its folder, or is mostly a hole.
        """
        check_inside(self._path.parent, self._path)
        try:
            stream = open_regular(self._path)
        except FileNotFoundError:
            return
        with stream:
            check_filled(str(self._path), stream.fileno())
            if stream.seek(0, os.SEEK_END) < self._offset:
                self._offset, self._in_long_line = 0, False
            stream.seek(self._offset)
            while line := stream.readline(MOST_LINE_BYTES):
                is_whole = line.endswith(b"\n")
                if not is_whole and len(line) < MOST_LINE_BYTES:
                    return
                self._offset += len(line)
                if is_whole and not self._in_long_line:
                    with contextlib.suppress(ValidationError):
                        yield EVENT.validate_json(line)
                self._in_long_line = not is_whole


def _is_storable(value: float) -> bool:
    return abs(value) <= MOST_MEASURED  # False for NaN


class RunSoFar:
    """What the events of a run have said: where it is, its notes and its curve. Does not grow with its steps."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.phase: Phase | None = None
        self.step: StepDone | None = None
        self.sample: Sampled | None = None
        self.notes: list[str] = []
        self._train = ThinnedSteps()
        self._validation: list[ValidationPoint] = []
        self._best: Validated | None = None
        for event in events:
            self.take(event)

    def take(self, event: Event) -> None:
        """Add an event. Losses that a record cannot hold, such as NaN, are left out of the curve."""
        if isinstance(event, PhaseStarted):
            self.phase = event.phase
        elif isinstance(event, Sampled):
            self.sample = event
        elif isinstance(event, Note):
            self.notes.append(event.text)
        elif isinstance(event, StepDone):
            self.step = event
            if _is_storable(event.loss) and _is_storable(event.grad_norm):
                self._train.add(TrainPoint.model_validate(event.model_dump(exclude={"kind", "steps", "covers"})))
        elif isinstance(event, Validated) and _is_storable(event.loss):
            self._validation.append(ValidationPoint.model_validate(event.model_dump(exclude={"kind", "best"})))
            self._best = event if event.best else self._best

    def curve(self) -> Curve:
        """The curve so far."""
        best = self._best
        return Curve(
            train=tuple(self._train.points),
            validation=tuple(self._validation),
            best_step=best.step if best else None,
            best_epoch=best.epoch if best else None,
            best_validation_loss=best.loss if best else None,
        )
