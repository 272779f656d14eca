"""Training of the last layers with the states of frozen blocks kept, against computing them at each step.

    python benches/trunk.py [--steps N] [--rounds N] [--model smollm2|gpt-neo]

Each round trains three times on the same batches, in this order: without a trunk, with an empty cache on disk, and with
the cache that the training before filled (what a second trial or seed finds). Ends with a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
import workload

import report
from tuneoff.engine import trainer
from tuneoff.engine.checkpoint import Checkpoints
from tuneoff.engine.kernels import use_fast_paths
from tuneoff.engine.precision import has_fast_bf16
from tuneoff.methods import build
from tuneoff.models import BaseModel
from tuneoff.results.events import Event, StepDone
from tuneoff.row_cache import RowCache
from tuneoff.spec import TrainSpec

TARGET = 4.0


class Clock:
    """The part of a meter that a training needs."""

    class Phase:
        tokens = 0

    @contextlib.contextmanager
    def phase(self, _name: str):
        yield self.Phase()

    def elapsed(self) -> float:
        return time.perf_counter()

    def state(self) -> dict[str, object]:
        return {}

    def resume(self, state: object) -> None:
        pass


def train(base: BaseModel, steps: int, *, key: str | None) -> tuple[list[float], list[float]]:
    """Seconds and loss of each step after the first. Without a key nothing is kept."""
    device = torch.device("cpu")
    adapted = build("last_layers", {}).adapt(base, [], 0)
    before = {name: tensor.detach().clone() for name, tensor in adapted.state().items()}
    times: list[float] = [time.perf_counter()]
    losses: list[float] = []

    def emit(event: Event) -> None:
        if isinstance(event, StepDone):
            times.append(time.perf_counter())
            losses.append(event.loss)

    original = trainer.make_frozen_trunk
    if key is None:
        trainer.make_frozen_trunk = lambda *_arguments: None
    with tempfile.TemporaryDirectory() as scratch:
        trainer.Trainer(
            adapted,
            workload.rows(base, "train", steps * workload.BATCH),
            workload.rows(base, "validation", workload.BATCH),
            TrainSpec(batch_size=workload.BATCH, epochs=1, max_steps=steps),
            learning_rate=1e-4,
            weight_decay=0.0,
            seed=0,
            pad_id=base.pad_id,
            device=device,
            checkpoints=Checkpoints(Path(scratch)),
            meter=Clock(),
            emit=emit,
            open_rows=None if key is None else lambda _blocks: RowCache(key),
        ).fit()
    trainer.make_frozen_trunk = original
    with torch.no_grad():
        for name, tensor in adapted.state().items():
            tensor.copy_(before[name])
    seconds = [after - start for start, after in itertools.pairwise(times[1:])]
    return seconds, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", choices=workload.MODELS, default="smollm2")
    options = parser.parse_args()
    device = torch.device("cpu")
    base = workload.base_model(options.model, torch.bfloat16 if has_fast_bf16(device) else torch.float32)
    use_fast_paths(base.model, device)
    found: dict[str, list[float]] = {"computed each step": [], "cache filled": [], "cache read": []}
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUNEOFF_CACHE"] = folder
        for number in range(options.rounds):
            for name, seconds in found.items():
                key = None if name == "computed each step" else f"round{number}"
                times, losses[name] = train(base, options.steps, key=key)
                seconds.append(statistics.median(times))
                print(f"round {number + 1}, {name}: {seconds[-1]:.2f} s a step", flush=True)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    ratio = medians["computed each step"] / medians["cache read"]
    worst = max(
        abs(mine / other - 1) for mine, other in zip(losses["cache read"], losses["computed each step"], strict=True)
    )
    rows = [
        report.at_least("8 last layers, speed with states read from the cache", TARGET, ratio),
        report.at_most("6 the same, largest relative error of a loss", 1e-4, worst),
    ]
    report.show(rows)


if __name__ == "__main__":
    main()
