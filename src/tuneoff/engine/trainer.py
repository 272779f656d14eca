"""The training loop for all methods. It trains the tensors that have `requires_grad`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from tuneoff import stopping
from tuneoff.engine import checkpoint
from tuneoff.engine.batching import (
    epoch_batches,
    evaluation_steps,
    row_lengths,
    split_micro_batches,
    steps_per_epoch,
    total_steps,
)
from tuneoff.engine.checkpoint import Checkpoints, UnfitState, check_same_tensors
from tuneoff.engine.frozen_trunk import FrozenTrunk, make_frozen_trunk
from tuneoff.engine.gradients import ComputedBefore, GradientAccumulator, batch_loss
from tuneoff.engine.kernels.packed_layers import check_packed_weights
from tuneoff.engine.loss import VirtualTokenModel, count_virtual_tokens, dtype_of
from tuneoff.engine.memory import retry_smaller
from tuneoff.engine.optimizer import MasterAdamW, learning_rate_at
from tuneoff.engine.parallel import ParallelWorkers
from tuneoff.engine.prefill import changes_frequencies, shared_prefix_for_loss
from tuneoff.engine.process_group import ALONE, ProcessGroup
from tuneoff.engine.prompt_cache import make_prompt_cache
from tuneoff.errors import RunFailure
from tuneoff.prompts import Encoded
from tuneoff.results.events import Event, StepDone, Validated
from tuneoff.results.run_record import Curve, Phase, TrainPoint, ValidationPoint
from tuneoff.results.step_thinning import ThinnedSteps
from tuneoff.row_cache import RowCache
from tuneoff.spec import CutAbove, TrainSpec


class TrainableModel(VirtualTokenModel, Protocol):
    """What the training loop needs to know of an adapted model."""

    def train_mode(self, on: bool) -> None:
        """Switch dropout on or off."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The trainable tensors by name, not copied."""
        ...


class PhaseTokens(Protocol):
    """A phase that is being measured. The code inside the phase adds to `tokens`."""

    tokens: int


class TrainingMeter(Protocol):
    """What the training loop needs of `tuneoff.profiling.Meter`."""

    def phase(self, name: Phase) -> AbstractContextManager[PhaseTokens]: ...

    def elapsed(self) -> float: ...

    def state(self) -> dict[str, Any]: ...

    def resume(self, state: Mapping[str, Any]) -> None: ...


class Diverged(Exception):
    """A number of the model is not finite. `curve` holds the losses before that step."""

    def __init__(
        self, step: int, curve: Curve, what: str = "the loss", way_out: str = "lower the learning rate"
    ) -> None:
        super().__init__(f"{what} is not finite at step {step}; {way_out}")
        self.curve = curve


def validation_loss(
    adapted: TrainableModel,
    rows: Sequence[Encoded],
    *,
    pad_id: int,
    device: torch.device,
    tokens: int,
    computed: ComputedBefore | None = None,
    note: Callable[[str], None] = lambda _text: None,
    group: ProcessGroup = ALONE,
) -> float:
    """Mean negative log likelihood per target token, in nats.

    Concurrent forward passes hold at most `tokens` tokens together. If memory runs out, that number is halved, and
    `note` is informed.
    """

    def attempt(parts: int) -> float:
        limit = max(1, tokens // parts)
        return _validation_loss(adapted, rows, pad_id, device, limit, computed, group, sequential=parts > 1)

    if group.size > 1:  # one process cannot begin again without the others
        return attempt(1)
    return retry_smaller(attempt, 1, tokens, "the validation loss", note)[0]


def _validation_loss(
    adapted: TrainableModel,
    rows: Sequence[Encoded],
    pad_id: int,
    device: torch.device,
    tokens: int,
    computed: ComputedBefore | None,
    group: ProcessGroup,
    *,
    sequential: bool,
) -> float:
    adapted.train_mode(False)
    check_packed_weights(adapted.model)
    workers = ParallelWorkers(device, dtype_of(adapted.model), alone=changes_frequencies(adapted.model))
    with torch.inference_mode():
        shared = shared_prefix_for_loss(adapted, rows, device) if computed is None else None

    def work(micro_batch: Sequence[Encoded]) -> tuple[Tensor, int]:
        stopping.check()
        with torch.inference_mode():
            loss = batch_loss(adapted, micro_batch, shared, computed, pad_id, device)
        return loss, sum(len(row.target) for row in micro_batch)

    overhead = count_virtual_tokens(adapted) if shared is None else -shared.tokens
    micro_batches = split_micro_batches(rows, max(1, tokens // workers.token_divisor), overhead, workers.multiple)
    losses = workers.map(work, micro_batches, group.share(len(micro_batches)), sequential=sequential)
    loss, count = group.sum(sum(float(loss) for loss, _ in losses), sum(count for _, count in losses))
    return loss / count


class _BestState:
    """The state with the lowest validation loss, on disk: a large model may not fit in memory twice.

    Only a process that `writes` has files.
    """

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self._folder, self._writes = folder, writes
        self.loss = math.inf
        self.step: int | None = None
        self.epoch: float | None = None

    @property
    def _path(self) -> Path:
        return self._folder / checkpoint.BEST_STATE.format(step=self.step)

    def improves(self, loss: float, step: int, epoch: float) -> bool:
        """Whether `loss` is the lowest so far; it is then remembered."""
        if not loss < self.loss:
            return False
        self.loss, self.step, self.epoch = loss, step, epoch
        return True

    def save(self, state: Mapping[str, Tensor]) -> None:
        if self._writes:
            checkpoint.write_state(self._path, state, {})

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if not self._writes:  # its weights are not used after the training
            return
        _copy_tensors(checkpoint.read_state(self._path)[0], state)

    def check(self, state: Mapping[str, Tensor]) -> None:
        """Raise `UnfitState` unless the file can be restored into `state`."""
        try:
            found, _ = checkpoint.read_state(self._path)
        except (FileNotFoundError, checkpoint.DamagedState):
            raise UnfitState("its best state is missing or damaged") from None
        check_same_tensors(found, state, "the tensor")

    def delete_files(self, *, keep: Collection[int | None] = ()) -> None:
        """Delete the files of all best states but those of the steps `keep`."""
        if not self._writes:
            return
        kept = [self._folder / checkpoint.BEST_STATE.format(step=step) for step in keep]
        for file in self._folder.glob(checkpoint.BEST_STATE.format(step="*")):
            if file not in kept:
                with contextlib.suppress(OSError):
                    file.unlink()


def _copy_tensors(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(source[name])


class _Progress:
    """The state of the training loop, except for weights and optimizer moments."""

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self.step = 0
        self.train = ThinnedSteps()
        self.validations: list[ValidationPoint] = []
        self.best = _BestState(folder, writes=writes)
        self.checks_without_improvement = 0
        self.stopped_early = False
        self.pruned_at: int | None = None
        self.ended = False
        self.parts = 1  # that each micro-batch is computed in

    def curve(self) -> Curve:
        return Curve(
            train=tuple(self.train.points),
            validation=tuple(self.validations),
            best_step=self.best.step,
            best_epoch=self.best.epoch,
            best_validation_loss=self.best.loss if math.isfinite(self.best.loss) else None,
            stopped_early=self.stopped_early,
            cut_at=self.pruned_at,
        )

    def as_data(self) -> dict[str, Any]:
        """JSON for the checkpoint."""
        return {
            "curve": self.curve().model_dump(),
            "bad_checks": self.checks_without_improvement,
            "ended": self.ended,
            "parts": self.parts,
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Restore what `as_data` returned. Raises `UnfitState` for anything else."""
        own = self.as_data()
        if data.keys() != own.keys() or any(type(data[key]) is not type(value) for key, value in own.items()):
            raise UnfitState("its fields are those of another version")
        try:
            curve = Curve.model_validate(data["curve"])
        except ValueError as error:
            raise UnfitState("its curve is that of another version") from error
        self.train, self.validations = ThinnedSteps(curve.train), list(curve.validation)
        self.step = curve.steps
        self.best.step, self.best.epoch = curve.best_step, curve.best_epoch
        self.best.loss = math.inf if curve.best_validation_loss is None else curve.best_validation_loss
        self.checks_without_improvement, self.ended = data["bad_checks"], data["ended"]
        self.stopped_early, self.pruned_at = curve.stopped_early, curve.cut_at
        self.parts = data["parts"]

    def needs_best_file(self, last_step: int) -> bool:
        """Whether the best weights are in a file: after the last step, the current ones may be the best."""
        return not self.ended and self.best.step is not None and not self.best.step == self.step == last_step


@dataclass
class Trainer:
    """One training: all steps of `spec`, then back to the weights with the best validation loss.

    The loss of a batch is its mean over target tokens, however the batch is split into micro-batches.

    `prune_above` adds validations at certain steps. Their losses are not candidates for the best one. If such a loss is
    above the limit for its step, training ends there with its current weights: the trial is pruned.

    An interrupted attempt resumes from the last of `checkpoints`, with the same result as an uninterrupted one. A
    request to stop (`tuneoff.stopping`) writes a checkpoint as of the last step. If memory runs out, each micro-batch
    is computed in twice as many parts, one after the other. `parts`: how many to begin with.

    `open_rows` opens the place on disk for the states of frozen blocks (`tuneoff.engine.frozen_trunk`), given their
    number. `reused_seconds` says afterwards what computing the states that were read from there had taken.

    The processes of `group` train together: each calls `fit` with the same arguments, and `checkpoints` of the same
    folder, which only the leader writes to. If memory runs out in one of them, the training fails.
    """

    adapted: TrainableModel
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
    meter: TrainingMeter
    emit: Callable[[Event], None]
    prune_above: CutAbove = ()
    parts: int = 1
    open_rows: Callable[[int], RowCache] | None = None
    group: ProcessGroup = ALONE
    reused_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        spec = self.spec
        self._pruning_limits = dict(self.prune_above)
        self._steps = total_steps(len(self.train), spec.batch_size, spec.epochs, spec.max_steps, spec.min_steps)
        self._epoch_steps = steps_per_epoch(len(self.train), spec.batch_size)
        self._evaluation_steps = evaluation_steps(self._steps, self._epoch_steps, spec)
        # Kept, because after the training a method may fold them into the model.
        self._weights = self.adapted.state()
        self._optimizer = MasterAdamW(self._weights.values(), self.weight_decay)
        self._progress = self._new_progress()
        self._progress.parts = self.parts
        self._reported = 0  # step of the last event
        self._random_before: dict[str, Tensor] | None = None  # the generators' states before the step in progress
        self._saved_best: int | None = None  # the best step of the newest state on disk
        self._measured: dict[str, Any] | None = None  # by the meter, until the training ended

    def _new_progress(self) -> _Progress:
        return _Progress(self.checkpoints.folder, writes=self.group.leads)

    def fit(self) -> Curve:
        """Train; call it once.

        Raises:
            Diverged: The loss or gradient is not finite.
            Stopped: This process was asked to end. A state is on disk if a step was done.
        """
        try:
            with stopping.stop_deferred():
                self.group.in_turn(self._resume)
                self._check_same_step()
                self._run()
                self._optimizer.release()
        except Diverged:
            self.checkpoints.delete()
            raise
        except stopping.Stopped:
            self._save_checkpoint()
            raise
        finally:
            self.adapted.train_mode(False)
            if not self.checkpoints.exists:
                self._progress.best.delete_files()
        return self._progress.curve()

    def save_result(self) -> None:
        """Write a checkpoint of the trained weights, if training has ended and there is none yet.

        For a run that is stopped afterwards.
        """
        if self._progress.ended and not self.checkpoints.exists:
            self._save_checkpoint()

    def _resume(self) -> None:
        """Restore the last usable checkpoint of an interrupted attempt, if there is one."""
        if not self.checkpoints.resume(self._take):
            self._progress.best.delete_files()
            return
        self.checkpoints.note(f"an earlier attempt was interrupted; training resumed after step {self._progress.step}")
        if self._progress.parts > 1:
            self.checkpoints.note(f"each micro-batch is computed in {self._progress.parts} parts, as before")
        for _ in range(self._progress.step):  # methods count these calls to number their dropout masks
            self.adapted.train_mode(True)
        self._saved_best = self._progress.best.step
        self._emit_earlier_events()

    def _check_same_step(self) -> None:
        """Raise `RunFailure` unless all processes continue after the same step."""
        step = self._progress.step
        if self.group.sum(step) != [self.group.size * step]:
            raise RunFailure("the processes of this run continue from different states; run the same command again")

    def _take(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Continue from a state. Raises `UnfitState` for one of another version; nothing is changed then."""
        if about.keys() != {"course", "meter"}:
            raise UnfitState("its fields are those of another version")
        progress = self._new_progress()
        progress.load(about["course"])
        if progress.step > self._steps:
            raise UnfitState("it is that of a longer training")
        progress.parts = max(progress.parts, self.parts)
        if progress.needs_best_file(self._steps):
            progress.best.check(self._weights)
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}, "random": {}}
        for key, tensor in tensors.items():
            part, _, name = key.partition("/")
            groups.setdefault(part, {})[name] = tensor
        if len(groups) > 3:
            raise UnfitState("its tensors are those of another version")
        check_same_tensors(groups["weights"], self._weights, "the weight")
        if not progress.ended:
            check_same_tensors(groups["optimizer"], self._optimizer.state_after_a_step(), "the optimizer's tensor")
        check_same_tensors(groups["random"], _random_states(self.device), "the random state")
        try:
            self.meter.resume(about["meter"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UnfitState("its measurements are those of another version") from error
        self._progress = progress
        _copy_tensors(groups["weights"], self._weights)
        if not progress.ended:
            self._optimizer.load(groups["optimizer"])
        _set_random_states(groups["random"], self.device)

    def _emit_earlier_events(self) -> None:
        """Emit the events of the interrupted attempt, so that the events of this attempt are complete."""
        best = math.inf
        progress = self._progress
        points: list[TrainPoint | ValidationPoint] = [*progress.train.points, *progress.validations]
        for point in sorted(points, key=lambda point: point.step):
            if isinstance(point, TrainPoint):
                self._emit_step(point)
            else:
                improved = point.step in self._evaluation_steps and point.loss < best
                best = point.loss if improved else best
                self.emit(Validated(best=improved, **point.model_dump()))

    def _emit_step(self, point: TrainPoint) -> None:
        self.emit(StepDone(steps=self._steps, covers=point.step - self._reported, **point.model_dump()))
        self._reported = point.step

    def _save_checkpoint(self) -> None:
        """Save the state after the last complete step. After the training, only the weights are needed."""
        progress = self._progress
        if progress.step == 0:
            return
        with self.meter.phase("load"):  # not a cost of the method
            tensors = {f"weights/{name}": tensor for name, tensor in self._weights.items()}
            if not progress.ended:
                tensors |= {f"optimizer/{name}": tensor for name, tensor in self._optimizer.state().items()}
            random_states = self._random_before or _random_states(self.device)
            tensors |= {f"random/{name}": tensor for name, tensor in random_states.items()}
            about = {"course": progress.as_data(), "meter": self._measured or self.meter.state()}
            if self.checkpoints.save(tensors, about):
                progress.best.delete_files(keep=(progress.best.step, self._saved_best))
                self._saved_best = progress.best.step

    def _run(self) -> None:
        """Do all remaining steps, then restore the best weights."""
        progress, adapted = self._progress, self.adapted
        if progress.ended:
            return
        with self.meter.phase("train") as training, contextlib.ExitStack() as stack:
            for_training, for_validation = self._computed_before(stack)
            gradients = GradientAccumulator(
                adapted,
                self._optimizer,
                pad_id=self.pad_id,
                device=self.device,
                tokens=self.spec.micro_batch_tokens,
                computed=for_training,
                parts=progress.parts,
                group=self.group,
            )
            stack.callback(gradients.close)
            if self._validation_is_missing():  # the attempt before this one was stopped during it
                self._validate(for_validation)
            while progress.step < self._steps and not progress.ended:
                epoch, done = divmod(progress.step, self._epoch_steps)
                for examples in epoch_batches(self.train, self.spec.batch_size, self.seed, epoch)[done:]:
                    stopping.check()
                    training.tokens += self._step(gradients, examples)
                    if progress.step in self._evaluation_steps or progress.step in self._pruning_limits:
                        self._validate(for_validation)
                    if progress.ended or progress.step == self._steps:
                        break
                    if self.checkpoints.due():
                        self._save_checkpoint()
            if progress.best.step not in (None, progress.step) and progress.pruned_at is None:
                progress.best.restore(self._weights)
            progress.ended = True
        self._measured = self.meter.state()
        if self.checkpoints.exists:  # what follows the training may be interrupted too
            self._save_checkpoint()

    def _computed_before(self, stack: contextlib.ExitStack) -> tuple[ComputedBefore | None, ComputedBefore | None]:
        """What training does not change, for training rows and for validation rows; released by `stack`."""
        train_again, validation_again = self._steps > self._epoch_steps, len(self._evaluation_steps) > 1
        splits = [(self.train, train_again), (self.validation, validation_again)]
        prompts = make_prompt_cache(self.adapted, splits, self.pad_id, self.device)
        if prompts is not None:
            return prompts, prompts
        trunk = make_frozen_trunk(self.adapted, splits, self.pad_id, self.device, self.open_rows)
        if trunk is None:
            return None, None
        stack.callback(self._release, trunk)
        return trunk.reader(repeated=train_again), trunk.reader(repeated=validation_again)

    def _release(self, trunk: FrozenTrunk) -> None:
        trunk.close()
        self.reused_seconds = trunk.reused_seconds

    def _validation_is_missing(self) -> bool:
        progress = self._progress
        done = progress.validations[-1].step if progress.validations else 0
        wanted = progress.step in self._evaluation_steps or progress.step in self._pruning_limits
        return wanted and done < progress.step

    def _step(self, gradients: GradientAccumulator, examples: Sequence[Encoded]) -> int:
        """One optimizer step; returns the number of tokens processed."""
        progress, spec = self._progress, self.spec
        rate = learning_rate_at(progress.step, self._steps, self.learning_rate, spec.warmup, spec.schedule)
        self.adapted.train_mode(True)
        self._random_before = _random_states(self.device)

        def attempt(parts: int) -> tuple[float, int]:
            if parts > progress.parts:
                gradients.begin_again(parts)
                progress.parts = parts  # also in the state of a run that is stopped before the step is done
                _set_random_states(self._random_before or {}, self.device)
            return gradients.add(examples)

        longest = max(len(examples), progress.parts) if self.group.size == 1 else progress.parts
        found, progress.parts = retry_smaller(attempt, progress.parts, longest, "a step", self.checkpoints.note)
        loss, tokens = found
        norm = self._optimizer.step(rate, spec.max_grad_norm) if math.isfinite(loss) else math.nan
        if not math.isfinite(norm):
            self._raise_diverged(progress.step + 1)
        progress.step, self._random_before = progress.step + 1, None
        point = TrainPoint(
            step=progress.step,
            epoch=progress.step / self._epoch_steps,
            seconds=self.meter.elapsed(),
            loss=loss,
            learning_rate=rate,
            grad_norm=norm,
            tokens=tokens,
        )
        if progress.train.add(point) or progress.step == self._steps:
            self._emit_step(point)
        return tokens

    def _validate(self, computed: ComputedBefore | None) -> None:
        """Compute the validation loss; keep the best state, stop early or prune."""
        progress, step = self._progress, self._progress.step
        with self.meter.phase("evaluate") as evaluating:
            loss = validation_loss(
                self.adapted,
                self.validation,
                pad_id=self.pad_id,
                device=self.device,
                tokens=self.spec.micro_batch_tokens,
                computed=computed,
                note=self.checkpoints.note,
                group=self.group,
            )
            evaluating.tokens += sum(row_lengths(self.validation))
        if not math.isfinite(loss):
            self._raise_diverged(step)
        epoch = step / self._epoch_steps
        point = ValidationPoint(step=step, epoch=epoch, seconds=self.meter.elapsed(), loss=loss)
        progress.validations.append(point)
        improved = step in self._evaluation_steps and progress.best.improves(loss, step, epoch)
        self.emit(Validated(best=improved, **point.model_dump()))
        if improved and step < self._steps:  # after the last step the current weights are the best
            progress.best.save(self._weights)
            if not self.checkpoints.exists:  # a checkpoint still refers to the best state before this one
                progress.best.delete_files(keep=(step,))
        if step in self._evaluation_steps:
            progress.checks_without_improvement = 0 if improved else progress.checks_without_improvement + 1
            if self.spec.patience is not None and progress.checks_without_improvement >= self.spec.patience:
                progress.ended = progress.stopped_early = True
        limit = self._pruning_limits.get(step)
        if limit is not None and loss > limit and not progress.ended:
            progress.ended, progress.pruned_at = True, step

    def _raise_diverged(self, step: int) -> NoReturn:
        if self._progress.best.step is not None:
            self._progress.best.restore(self._weights)
        raise Diverged(step, self._progress.curve())


def _random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators that a training on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore what `_random_states` returned."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
