"""The same losses as a plain fp32 reference (row 5).

The reference is written here with transformers and PEFT alone: fp32, one row at a time without any padding, logits at
every position, an AdamW that is not fused. Both sides start from the same weights, see the same batches, use no dropout.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from contestants import Job, peft_model
from torch import Tensor
from workload import (
    LEARNING_RATES,
    SEED,
    Row,
    Work,
    base_model,
    dataset,
    dtypes_usable,
    judged,
    main,
    parser,
    prompter,
    show,
    training_batches,
)

from tuneoff.engine.precision import pick_device
from tuneoff.engine.train import fit, validation_loss
from tuneoff.events import Event
from tuneoff.methods import build
from tuneoff.prompts import Encoded
from tuneoff.resources import Meter
from tuneoff.spec import TrainSpec

# Relative: the largest difference of a step's loss, and that of the validation loss after the last step.
TARGETS = {torch.float32: (1e-4, 1e-4), torch.bfloat16: (1e-2, 5e-3)}
_PEFT_PREFIX = "base_model.model."
_CLIP = TrainSpec().max_grad_norm if "max_grad_norm" in TrainSpec.model_fields else 1.0


@dataclass(frozen=True)
class Trained:
    """Loss of every step and validation loss at the end, in nats a target token."""

    steps: list[float]
    validation: float


class NotFinished(Exception):
    """The product's loop has not done all steps."""


def ours(
    work: Work, method: str, dtype: torch.dtype, rows: tuple[list[Encoded], list[Encoded]], steps: int
) -> tuple[Trained, dict[str, Tensor]]:
    """The product's loop, and the fp32 values of what it trained, before the first step."""
    train, validation = rows
    device = pick_device()
    base = base_model(work, device, dtype)
    adapted = build(method, {"lora_dropout": 0.0} if method == "lora" else {}).adapt(base, (), SEED)
    start = {name: tensor.detach().float().clone() for name, tensor in adapted.state().items()}
    spec = TrainSpec(max_steps=steps, batch_size=work.batch_size, warmup=0.0, schedule="constant", epochs=1_000)

    def ignore(_event: Event) -> None:
        return None

    with Meter() as meter, tempfile.TemporaryDirectory() as scratch:
        curve = fit(
            adapted,
            train,
            validation[:1],
            spec,
            learning_rate=LEARNING_RATES[method],
            weight_decay=0.0,
            seed=SEED,
            pad_id=base.pad_id,
            device=device,
            scratch=Path(scratch),
            meter=meter,
            emit=ignore,
        )
    if len(curve.train) < steps or curve.best_step != steps:
        # The loop goes back to the best weights; the reference has only those of the last step to compare with.
        end = None
    else:
        end = validation_loss(adapted, validation, pad_id=base.pad_id, device=device, tokens=spec.micro_batch_tokens)
    return Trained([point.loss for point in curve.train], float("nan") if end is None else end), start
