"""The same losses as an fp32 reference on the same batches: row 5.

    python benches/losses.py [--steps 50] [--validation 64]

The reference is transformers with PEFT in fp32, right padding with a mask, labels everywhere; the same initial adapter,
the same batches, torch's AdamW. Dropout is off. bf16 is left out on a machine without fast bf16 products.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from typing import Any

import torch
import workload

import report
from tuneoff.engine.batching import epoch_batches
from tuneoff.engine.gradients import GradientAccumulator
from tuneoff.engine.kernels import use_fast_paths
from tuneoff.engine.loss import collate
from tuneoff.engine.optimizer import MasterAdamW
from tuneoff.engine.precision import has_fast_bf16
from tuneoff.engine.trainer import validation_loss
from tuneoff.methods import build
from tuneoff.prompts import Encoded
from tuneoff.spec import TrainSpec

RATES = {"lora": 1e-3, "full": 1e-4}


def adapted(method: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Base and adapted model; the adapter's random start is the same in every dtype."""
    base = workload.base_model("smollm2", dtype)
    way = build(method, {"lora_dropout": 0.0} if method == "lora" else {})
    made = way.adapt(base, [], 0)
    if method == "lora":
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, tensor in sorted(made.state().items()):
                if "lora_A" in name:
                    start = torch.rand(tensor.shape, generator=generator) * 2 - 1
                    tensor.copy_(start * (1 / tensor.shape[1]) ** 0.5)
    return base, made


def engine(method: str, dtype: torch.dtype, batches: Sequence[Sequence[Encoded]], rows: Any) -> list[float]:
    """Loss of every step, then the validation loss, through tuneoff's engine."""
    base, made = adapted(method, dtype)
    use_fast_paths(made.model, base.device)
    optimizer = MasterAdamW(made.state().values(), 0.0)
    made.train_mode(True)
    gradients = GradientAccumulator(
        made, optimizer, pad_id=base.pad_id, device=base.device, tokens=TrainSpec().micro_batch_tokens
    )
    losses = []
    for batch in batches:
        losses.append(gradients.add(batch)[0])
        optimizer.step(RATES[method], 1.0)
    return [*losses, validation_loss(made, rows, pad_id=base.pad_id, device=base.device, tokens=1024)]


def reference(method: str, batches: Sequence[Sequence[Encoded]], rows: Any) -> list[float]:
    """The same through transformers' own forward and torch's AdamW in fp32."""
    base, made = adapted(method, torch.float32)
    model = made.model
    for module in model.modules():  # PEFT's own forward, not the fused one
        module.__dict__.pop("forward", None)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adamw = torch.optim.AdamW(trainable, weight_decay=0.0)

    def loss_of(batch: Sequence[Encoded]) -> tuple[torch.Tensor, int]:
        made_batch = collate(batch, base.pad_id, base.device)
        mask = torch.zeros_like(made_batch.ids_BT)
        labels = torch.full_like(made_batch.ids_BT, -100)
        for index, row in enumerate(batch):
            end = len(row.prompt) + len(row.target)
            mask[index, :end] = 1
            labels[index, len(row.prompt) : end] = torch.tensor(row.target)
        loss = model(input_ids=made_batch.ids_BT, attention_mask=mask, labels=labels, use_cache=False).loss
        return loss, len(made_batch.targets_N)

    losses = []
    model.train()
    for batch in batches:
        loss, _ = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        for group in adamw.param_groups:
            group["lr"] = RATES[method]
        adamw.step()
        adamw.zero_grad()
        losses.append(float(loss.detach()))
    total, count = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for first in range(0, len(rows), workload.BATCH):
            loss, targets = loss_of(rows[first : first + workload.BATCH])
            total, count = total + float(loss) * targets, count + targets
    return [*losses, total / count]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--validation", type=int, default=64)
    parser.add_argument("--methods", nargs="+", default=["lora", "full"])
    chosen = parser.parse_args()
    base = workload.base_model("smollm2", torch.float32)
    batches = epoch_batches(
        workload.rows(base, "train", chosen.steps * workload.BATCH), workload.BATCH, seed=0, epoch=0
    )[: chosen.steps]
    validation = copy.copy(workload.rows(base, "validation", chosen.validation))
    limits = {torch.bfloat16: (0.01, 0.005), torch.float32: (1e-4, 1e-4)}
    if not has_fast_bf16(base.device):
        del limits[torch.bfloat16]
    out = []
    for method in chosen.methods:
        exact = reference(method, batches, validation)
        for dtype, (limit, last) in limits.items():
            found = engine(method, dtype, batches, validation)
            apart = [abs(mine - theirs) / theirs for mine, theirs in zip(found, exact, strict=True)]
            name = str(dtype).removeprefix("torch.")
            print(f"{method} {name}: worst step {max(apart[:-1]):.2e}, validation {apart[-1]:.2e}", file=sys.stderr)
            out.append(report.at_most(f"5 {method} {name}, worst of {chosen.steps} steps", limit, max(apart[:-1])))
            out.append(report.at_most(f"5 {method} {name}, validation loss", last, apart[-1]))
    report.show(out)


if __name__ == "__main__":
    main()
