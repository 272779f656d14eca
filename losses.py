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
from contestants import Job, padded, peft_model
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
from tuneoff.engine.train import fit
from tuneoff.events import Event
from tuneoff.methods import build
from tuneoff.prompts import Encoded
from tuneoff.resources import Meter
from tuneoff.spec import TrainSpec

# Largest relative difference of a step's loss, and that of the validation loss after the last step.
TARGETS = {torch.float32: (1e-4, 1e-4), torch.bfloat16: (1e-2, 5e-3)}
_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Losses:
    """Of every step, and on the validation rows after the last one; nats a target token."""

    steps: list[float]
    validation: float


def ours(
    work: Work, method: str, dtype: torch.dtype, train: list[Encoded], validation: list[Encoded], steps: int
) -> tuple[Losses, dict[str, Tensor]]:
    """The product's loop, and the fp32 values of what it trains before the first step."""
    device = pick_device()
    base = base_model(work, device, dtype)
    adapted = build(method, {"lora_dropout": 0.0} if method == "lora" else {}).adapt(base, (), SEED)
    start = {name: tensor.detach().float().clone() for name, tensor in adapted.state().items()}
    # `steps` lie within the first epoch, so the only evaluation is the one after the last step.
    spec = TrainSpec(max_steps=steps, batch_size=work.batch_size, warmup=0.0, schedule="constant")

    def ignore(_event: Event) -> None:
        return None

    with Meter() as meter, tempfile.TemporaryDirectory() as scratch:
        curve = fit(
            adapted,
            train,
            validation,
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
    return Losses([point.loss for point in curve.train], curve.validation[-1].loss), start


def reference(
    work: Work, method: str, start: dict[str, Tensor], batches: Sequence[list[Encoded]], validation: list[Encoded]
) -> Losses:
    """Plain training from the weights `start`."""
    base = base_model(work, pick_device(), torch.float32)
    model = peft_model(Job("reference", method, work), base)
    _begin_with(model, method, start)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATES[method], weight_decay=0.0, foreach=False, fused=False)
    limit = TrainSpec().max_grad_norm
    losses = []
    model.eval()  # no dropout; nothing else differs between the modes of these models
    for batch in batches:
        targets = sum(len(row.target) for row in batch)
        total = 0.0
        for row in batch:
            loss = _row_loss(model, row, base.device) / targets
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trained, limit)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    with torch.no_grad():
        summed = sum(float(_row_loss(model, row, base.device)) for row in validation)
    return Losses(losses, summed / sum(len(row.target) for row in validation))


def _begin_with(model: torch.nn.Module, method: str, start: dict[str, Tensor]) -> None:
    """Copy the product's first weights into what trains here. Raises `KeyError` when the two sides train different tensors."""
    own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if method == "soft_prompt":
        own = dict(zip(start, own.values(), strict=True))  # one tensor on both sides, under other names
    own = {name.removeprefix(_PEFT_PREFIX): parameter for name, parameter in own.items()}
    if own.keys() != start.keys():
        raise KeyError(f"the two sides train different tensors: {sorted(own.keys() ^ start.keys())[:4]}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(start[name])


def _row_loss(model: torch.nn.Module, row: Encoded, device: torch.device) -> Tensor:
    """Summed over the target tokens of one row, as the model itself computes it."""
    batch = {name: tensor.to(device) for name, tensor in padded([row], 0).items()}
    loss: Tensor = model(**batch).loss * len(row.target)
    return loss


def largest_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Largest |a - b| / |b| over the steps."""
    return max(abs(a - b) / abs(b) for a, b in zip(one, other, strict=True))


def compare(work: Work, method: str, dtype: torch.dtype, steps: int, validation_rows: int) -> list[Row]:
    """The two rows of one method in one dtype."""
    encoder = prompter(work, base_model(work, pick_device(), dtype))
    splits = dataset(work)
    train, _ = encoder.encode(splits.train, with_target=True)
    validation, _ = encoder.encode(splits.validation[:validation_rows], with_target=True)
    batches = training_batches(work, train)[:steps]
    found, start = ours(work, method, dtype, train, validation, len(batches))
    wanted = reference(work, method, start, batches, validation)
    name = "fp32" if dtype == torch.float32 else "bf16"
    print(f"\n{method}, {name}: loss of each step, ours and the reference's", flush=True)
    for number, (own, plain) in enumerate(zip(found.steps, wanted.steps, strict=True), 1):
        print(f"  {number:3d}  {own:.6f}  {plain:.6f}  {abs(own - plain) / plain:.1e}")
    print(f"  validation  {found.validation:.6f}  {wanted.validation:.6f}", flush=True)
    each, end = TARGETS[dtype]
    worst = largest_difference(found.steps, wanted.steps)
    last = largest_difference([found.validation], [wanted.validation])
    return [
        judged(f"5.{method}.{name}.steps", worst, at_most=each, unit="relative", note=f"{len(batches)} steps"),
        judged(f"5.{method}.{name}.validation", last, at_most=end, unit="relative", note=f"{len(validation)} rows"),
    ]


def bench() -> None:
    options = parser(__doc__)
    options.add_argument("--steps", type=int, help="within the first epoch (default 50; short 5)")
    options.add_argument("--batch-size", type=int, help="rows of a batch (default 8; short 4)")
    options.add_argument("--methods", nargs="+", choices=list(LEARNING_RATES), default=list(LEARNING_RATES))
    given = options.parse_args()
    work = Work(given.model, given.data, given.batch_size or (4 if given.short else 8))
    steps = given.steps or (5 if given.short else 50)
    rows: list[Row] = []
    for dtype in dtypes_usable(pick_device()):
        for method in given.methods:
            rows += compare(work, method, dtype, steps, 8 if given.short else 100)
    if len(dtypes_usable(pick_device())) == 1:
        rows.append(judged("5.bf16", None, at_most=1e-2, unit="relative", note="this machine has no fast bf16"))
    show(f"losses, model {given.model}, batch {work.batch_size}", rows)


if __name__ == "__main__":
    main(bench)
