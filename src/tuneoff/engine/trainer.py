"""The one training loop. It knows no method: what trains is what has `requires_grad`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from tuneoff.engine import checkpoint
from tuneoff.engine.batching import epoch_batches, evaluation_steps, even_pieces, lengths, steps_per_epoch, total_steps
from tuneoff.engine.checkpoint import Checkpoints
from tuneoff.engine.gradients import Gradients, loss_of
from tuneoff.engine.loss import Trainable, virtual_tokens
from tuneoff.engine.optimizer import MasterAdamW, rate_at
from tuneoff.engine.parallel import Lanes
from tuneoff.engine.prefill import read_beginning
from tuneoff.engine.prompt_cache import HeldPrompts, hold
from tuneoff.prompts import Encoded
from tuneoff.results.events import Event, StepDone, Validated
from tuneoff.results.run_record import Curve, Phase, TrainPoint, ValidationPoint
from tuneoff.spec import CutAbove, TrainSpec


class Learner(Trainable, Protocol):
    """An adapted model as the loop sees it."""

    def train_mode(self, on: bool) -> None: ...

    def state(self) -> dict[str, Tensor]: ...


class PhaseCounter(Protocol):
    """Counts tokens of a phase that is being measured."""

    tokens: int


class Meter(Protocol):
    """Measures phases; the innermost one that is open gets the time."""

    def phase(self, name: Phase) -> AbstractContextManager[PhaseCounter]: ...

    def elapsed(self) -> float: ...

    def state(self) -> dict[str, Any]: ...

    def go_on(self, state: Mapping[str, Any]) -> None: ...


class Diverged(Exception):
    """The loss or the gradient is no number any more; `curve` holds what came before."""

    def __init__(self, step: int, curve: Curve) -> None:
        super().__init__(f"the loss is not finite at step {step}; lower the learning rate")
        self.curve = curve


def validation_loss(
    adapted: Learner,
    rows: Sequence[Encoded],
    *,
    pad_id: int,
    device: torch.device,
    tokens: int,
    held: HeldPrompts | None = None,
) -> float:
    """Mean negative log likelihood a target token, in nats; passes under way hold at most `tokens` tokens in all."""
    adapted.train_mode(False)
    lanes = Lanes(device)
    with torch.inference_mode():
        shared = read_beginning(adapted, rows, device)

    def look(piece: Sequence[Encoded]) -> tuple[Tensor, int]:
        with torch.inference_mode():
            loss = loss_of(adapted, piece, shared, held, pad_id, device)
        return loss, sum(len(row.target) for row in piece)

    overhead = virtual_tokens(adapted) if shared is None else -shared.ids
    losses = lanes.map(look, even_pieces(rows, max(1, tokens // lanes.share), overhead, lanes.pieces))
    return sum(float(loss) for loss, _ in losses) / sum(count for _, count in losses)


class _Best:
    """The best state so far, on disk (full tuning of a large model has no room for a second copy in memory)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.loss = math.inf
        self.step: int | None = None
        self.epoch: float | None = None

    @property
    def _path(self) -> Path:
        return self._folder / checkpoint.BEST.format(step=self.step)

    def improve(self, loss: float, step: int, epoch: float) -> bool:
        if not loss < self.loss:
            return False
        self.loss, self.step, self.epoch = loss, step, epoch
        return True

    def keep(self, state: Mapping[str, Tensor]) -> None:
        checkpoint.write(self._path, state, {})

    def restore(self, state: Mapping[str, Tensor]) -> None:
        _copy(checkpoint.read(self._path)[0], state)

    def is_whole(self) -> bool:
        try:
            checkpoint.read(self._path)
        except (FileNotFoundError, checkpoint.Damaged):
            return False
        return True

    def tidy(self, *, all_of_them: bool = False) -> None:
        """Delete the states that were the best before, or all."""
        for file in self._folder.glob(checkpoint.BEST.format(step="*")):
            if all_of_them or file != self._path:
                with contextlib.suppress(OSError):
                    file.unlink()


def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(source[name])


class _Course:
    """How far a training has come: all that the loop knows beside weights and moments."""

    def __init__(self, folder: Path) -> None:
        self.step = 0
        self.points: list[TrainPoint] = []
        self.validations: list[ValidationPoint] = []
        self.best = _Best(folder)
        self.bad_checks = 0
        self.stopped_early = False
        self.cut_at: int | None = None
        self.ended = False

    def curve(self) -> Curve:
        return Curve(
            train=tuple(self.points),
            validation=tuple(self.validations),
            best_step=self.best.step,
            best_epoch=self.best.epoch,
            best_validation_loss=self.best.loss if math.isfinite(self.best.loss) else None,
            stopped_early=self.stopped_early,
            cut_at=self.cut_at,
        )

    def as_data(self) -> dict[str, Any]:
        return {"curve": self.curve().model_dump(), "bad_checks": self.bad_checks, "ended": self.ended}

    def go_on_from(self, data: Mapping[str, Any]) -> None:
        curve = Curve.model_validate(data["curve"])
        self.points, self.validations = list(curve.train), list(curve.validation)
        self.step = len(self.points)
        self.best.step, self.best.epoch = curve.best_step, curve.best_epoch
        self.best.loss = math.inf if curve.best_validation_loss is None else curve.best_validation_loss
        self.bad_checks, self.ended = data["bad_checks"], data["ended"]
        self.stopped_early, self.cut_at = curve.stopped_early, curve.cut_at

    def has_its_best(self) -> bool:
        """Whether there is a whole file to go back to, if one will be needed."""
        return self.ended or self.best.step is None or self.best.is_whole()


@dataclass
class Training:
    """One training: to the end of the effort in `spec`, then back to the best validation loss.

    The loss of a batch is its mean over target tokens, however the batch is cut into pieces. At the steps of
    `cut_above` validation comes beside the schedule: such a loss is no candidate for the best, and one above its limit
    ends the training there, its weights as they are.

    An attempt that was interrupted goes on from the last of `checkpoints`, and comes out as if it had not been.
    """

    adapted: Learner
    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    spec: TrainSpec
    _: KW_ONLY
    learning_rate: float
    weight_decay: float
    seed: int
    pad_id: int
    device: torch.device
    checkpoints: Checkpoints
    meter: Meter
    emit: Callable[[Event], None]
    cut_above: CutAbove = ()

    def __post_init__(self) -> None:
        spec = self.spec
        self._rungs = dict(self.cut_above)
        self._steps = total_steps(len(self.train), spec.batch_size, spec.epochs, spec.max_steps, spec.min_steps)
        self._epoch = steps_per_epoch(len(self.train), spec.batch_size)
        self._checks = evaluation_steps(self._steps, self._epoch, spec)
        self._optimizer = MasterAdamW(self.adapted.state().values(), self.weight_decay)
        self._course = _Course(self.checkpoints.folder)

    def fit(self) -> Curve:
        """Do it, once. Raises `Diverged`."""
        try:
            self._go_on()
            self._run()
        except Diverged:
            self.checkpoints.forget()
            raise
        finally:
            self.adapted.train_mode(False)
            if not self.checkpoints.there:
                self._course.best.tidy(all_of_them=True)
        return self._course.curve()

    def _go_on(self) -> None:
        """Take up what an interrupted attempt has left."""
        found = self.checkpoints.find()
        if found is None:
            self._course.best.tidy(all_of_them=True)
            return
        tensors, about = found
        self._course.go_on_from(about["course"])
        if not self._course.has_its_best():
            self.checkpoints.note("the best state of an interrupted attempt was lost or damaged; the run began anew")
            self.checkpoints.forget()
            self._course = _Course(self.checkpoints.folder)
            self._course.best.tidy(all_of_them=True)
            return
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}, "random": {}}
        for key, tensor in tensors.items():
            part, _, name = key.partition("/")
            parts[part][name] = tensor
        _copy(parts["weights"], self.adapted.state())
        self._optimizer.load(parts["optimizer"])
        torch.set_rng_state(parts["random"]["cpu"])
        if "cuda" in parts["random"]:
            torch.cuda.set_rng_state(parts["random"]["cuda"], self.device)
        if "mps" in parts["random"]:
            torch.mps.set_rng_state(parts["random"]["mps"])
        self.checkpoints.note(f"an earlier attempt was interrupted; this one went on from step {self._course.step}")
        self.meter.go_on(about["meter"])
        for _ in range(self._course.step):  # methods number their dropout masks by these calls
            self.adapted.train_mode(True)
        self._tell_again()

    def _tell_again(self) -> None:
        """The events of this attempt are those of all attempts."""
        validated = {point.step: point for point in self._course.validations}
        best = math.inf
        for point in self._course.points:
            self.emit(StepDone(steps=self._steps, **point.model_dump()))
            if (seen := validated.get(point.step)) is not None:
                improved = point.step in self._checks and seen.loss < best
                best = seen.loss if improved else best
                self.emit(Validated(best=improved, **seen.model_dump()))

    def _keep(self) -> None:
        with self.meter.phase("load"):  # no cost of the method
            tensors = {f"weights/{name}": tensor for name, tensor in self.adapted.state().items()}
            tensors |= {f"optimizer/{name}": tensor for name, tensor in self._optimizer.state().items()}
            tensors["random/cpu"] = torch.get_rng_state()
            if self.device.type == "cuda":
                tensors["random/cuda"] = torch.cuda.get_rng_state(self.device)
            if self.device.type == "mps":
                tensors["random/mps"] = torch.mps.get_rng_state()
            about = {"course": self._course.as_data(), "meter": self.meter.state()}
            if self.checkpoints.keep(tensors, about):
                self._course.best.tidy()

    def _run(self) -> None:
        """All steps that are left, then back to the best weights."""
        course, adapted = self._course, self.adapted
        if course.ended:
            return
        with self.meter.phase("train") as training, contextlib.ExitStack() as ending:
            wanted = [(self.train, self._steps > self._epoch), (self.validation, len(self._checks) > 1)]
            held = hold(adapted, wanted, self.pad_id, self.device)
            gradients = Gradients(
                adapted,
                self._optimizer,
                pad_id=self.pad_id,
                device=self.device,
                tokens=self.spec.micro_batch_tokens,
                held=held,
            )
            ending.callback(gradients.close)
            while course.step < self._steps and not course.ended:
                number, done = divmod(course.step, self._epoch)
                for examples in epoch_batches(self.train, self.spec.batch_size, self.seed, number)[done:]:
                    training.tokens += self._step(gradients, examples)
                    if course.step in self._checks or course.step in self._rungs:
                        self._check(held)
                    if course.ended or course.step == self._steps:
                        break
                    if self.checkpoints.due():
                        self._keep()
            if course.best.step not in (None, course.step) and course.cut_at is None:
                course.best.restore(adapted.state())
            course.ended = True
            if self.checkpoints.there:  # what comes after may be interrupted too
                self._keep()

    def _step(self, gradients: Gradients, examples: Sequence[Encoded]) -> int:
        course, spec = self._course, self.spec
        rate = rate_at(course.step, self._steps, self.learning_rate, spec.warmup, spec.schedule)
        self.adapted.train_mode(True)
        loss, tokens = gradients.add(examples)
        norm = self._optimizer.step(rate, spec.max_grad_norm) if math.isfinite(loss) else math.nan
        if not math.isfinite(norm):
            self._diverged(course.step + 1)
        course.step += 1
        point = TrainPoint(
            step=course.step,
            epoch=course.step / self._epoch,
            seconds=self.meter.elapsed(),
            loss=loss,
            learning_rate=rate,
            grad_norm=norm,
            tokens=tokens,
        )
        course.points.append(point)
        self.emit(StepDone(steps=self._steps, **point.model_dump()))
        return tokens

    def _check(self, held: HeldPrompts | None) -> None:
        course, step = self._course, self._course.step
        with self.meter.phase("evaluate") as evaluating:
            now = validation_loss(
                self.adapted,
                self.validation,
                pad_id=self.pad_id,
                device=self.device,
                tokens=self.spec.micro_batch_tokens,
                held=held,
            )
            evaluating.tokens += sum(lengths(self.validation))
        if not math.isfinite(now):
            self._diverged(step)
        epoch = step / self._epoch
        point = ValidationPoint(step=step, epoch=epoch, seconds=self.meter.elapsed(), loss=now)
        course.validations.append(point)
        improved = step in self._checks and course.best.improve(now, step, epoch)
        self.emit(Validated(best=improved, **point.model_dump()))
        if improved and step < self._steps:  # after the last step the weights themselves are the best
            course.best.keep(self.adapted.state())
            if not self.checkpoints.there:  # else the last checkpoint goes back to the one before
                course.best.tidy()
        if step in self._checks:
            course.bad_checks = 0 if improved else course.bad_checks + 1
            if self.spec.patience is not None and course.bad_checks >= self.spec.patience:
                course.ended = course.stopped_early = True
        limit = self._rungs.get(step)
        if limit is not None and now > limit and not course.ended:
            course.ended, course.cut_at = True, step

    def _diverged(self, step: int) -> NoReturn:
        if self._course.best.step is not None:
            self._course.best.restore(self.adapted.state())
        raise Diverged(step, self._course.curve())
