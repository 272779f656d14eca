"""The one training loop. It knows no method: what trains is what has `requires_grad`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from tuneoff.engine.batching import epoch_batches, evaluation_steps, even_pieces, lengths, steps_per_epoch, total_steps
from tuneoff.engine.forward import Trainable, virtual_tokens
from tuneoff.engine.gradient import Gradients, loss_of
from tuneoff.engine.held import HeldPrompts, hold
from tuneoff.engine.lanes import Lanes
from tuneoff.engine.optimizer import MasterAdamW, rate_at
from tuneoff.engine.prefill import read_beginning
from tuneoff.events import Event, StepDone, Validated
from tuneoff.prompts import Encoded
from tuneoff.record import Curve, Phase, TrainPoint, ValidationPoint
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


class Diverged(Exception):
    """The loss or the gradient is no number any more; `curve` holds what came before."""

    def __init__(self, step: int, curve: Curve) -> None:
        super().__init__(
            f"the loss is not finite at step {step}; lower the learning rate (the last finite weights were kept)"
        )
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
    losses = lanes.map(look, even_pieces(rows, max(1, tokens // lanes.pieces), overhead, lanes.pieces))
    return sum(float(loss) for loss, _ in losses) / sum(count for _, count in losses)


class _Best:
    """The best state so far, on disk (full tuning of a large model has no room for a second copy in memory)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.loss = math.inf
        self.step: int | None = None
        self.epoch: float | None = None

    def improve(self, loss: float, step: int, epoch: float) -> bool:
        if not loss < self.loss:
            return False
        self.loss, self.step, self.epoch = loss, step, epoch
        return True

    def keep(self, state: dict[str, Tensor]) -> None:
        from safetensors.torch import save_file

        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, self._path)

    def restore(self, state: dict[str, Tensor]) -> None:
        from safetensors.torch import load_file

        kept = load_file(self._path)
        with torch.no_grad():
            for name, tensor in state.items():
                tensor.copy_(kept[name])

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


def fit(
    adapted: Learner,
    train: Sequence[Encoded],
    validation: Sequence[Encoded],
    spec: TrainSpec,
    *,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    pad_id: int,
    device: torch.device,
    scratch: Path,
    meter: Meter,
    emit: Callable[[Event], None],
    cut_above: CutAbove = (),
) -> Curve:
    """Train to the end of the effort in `spec`, then go back to the best validation loss. Raises `Diverged`.

    The loss of a batch is its mean over target tokens, however the batch is cut into pieces. At the steps of
    `cut_above` validation comes beside the schedule: such a loss is no candidate for the best, and one above its limit
    ends the training there, its weights as they are.
    """
    steps = total_steps(len(train), spec.batch_size, spec.epochs, spec.max_steps, spec.min_steps)
    an_epoch = steps_per_epoch(len(train), spec.batch_size)
    checks = evaluation_steps(steps, an_epoch, spec)
    rungs = dict(cut_above)
    optimizer = MasterAdamW(adapted.state().values(), weight_decay)
    best = _Best(scratch / "best.safetensors")
    points: list[TrainPoint] = []
    validations: list[ValidationPoint] = []
    bad_checks = 0

    def curve(*, stopped_early: bool = False, cut_at: int | None = None) -> Curve:
        loss = best.loss if math.isfinite(best.loss) else None
        return Curve(
            train=tuple(points),
            validation=tuple(validations),
            best_step=best.step,
            best_epoch=best.epoch,
            best_validation_loss=loss,
            stopped_early=stopped_early,
            cut_at=cut_at,
        )

    try:
        step = 0
        with meter.phase("train") as training, contextlib.ExitStack() as ending:
            held = hold(adapted, [(train, steps > an_epoch), (validation, len(checks) > 1)], pad_id, device)
            gradients = Gradients(
                adapted, optimizer, pad_id=pad_id, device=device, tokens=spec.micro_batch_tokens, held=held
            )
            ending.callback(gradients.close)
            while step < steps:
                for examples in epoch_batches(train, spec.batch_size, seed, step // an_epoch):
                    rate = rate_at(step, steps, learning_rate, spec.warmup, spec.schedule)
                    adapted.train_mode(True)
                    loss, tokens = gradients.add(examples)
                    norm = optimizer.step(rate, spec.max_grad_norm) if math.isfinite(loss) else math.nan
                    if not math.isfinite(norm):
                        if best.step is not None:
                            best.restore(adapted.state())
                        raise Diverged(step + 1, curve())
                    step += 1
                    training.tokens += tokens
                    epoch = step / an_epoch
                    point = TrainPoint(
                        step=step,
                        epoch=epoch,
                        seconds=meter.elapsed(),
                        loss=loss,
                        learning_rate=rate,
                        grad_norm=norm,
                        tokens=tokens,
                    )
                    points.append(point)
                    emit(StepDone(steps=steps, **point.model_dump()))
                    if step in checks or step in rungs:
                        with meter.phase("evaluate") as evaluating:
                            now = validation_loss(
                                adapted,
                                validation,
                                pad_id=pad_id,
                                device=device,
                                tokens=spec.micro_batch_tokens,
                                held=held,
                            )
                            evaluating.tokens += sum(lengths(validation))
                        if not math.isfinite(now):
                            if best.step is not None:
                                best.restore(adapted.state())
                            raise Diverged(step, curve())
                        validations.append(ValidationPoint(step=step, epoch=epoch, seconds=meter.elapsed(), loss=now))
                        improved = step in checks and best.improve(now, step, epoch)
                        emit(Validated(step=step, epoch=epoch, loss=now, best=improved, seconds=meter.elapsed()))
                        if step in checks:
                            bad_checks = 0 if improved else bad_checks + 1
                        if improved and step < steps:  # after the last step the weights themselves are the best
                            best.keep(adapted.state())
                        if spec.patience is not None and bad_checks >= spec.patience:
                            best.restore(adapted.state())
                            return curve(stopped_early=True)
                        if (limit := rungs.get(step)) is not None and now > limit:
                            return curve(cut_at=step)
                    if step == steps:
                        break
        if best.step is not None and best.step != steps:
            best.restore(adapted.state())
        return curve()
    finally:
        adapted.train_mode(False)
        with contextlib.suppress(OSError):
            best.forget()
