"""Adapting, training and reading tiny models, for the tests of methods."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from support.tiny_bases import CPU
from tiny import example_row
from tuneoff import models
from tuneoff.data import Example, group_id
from tuneoff.engine.generation import GeneratedTokens, generate
from tuneoff.engine.loss import collate, target_logits, target_loss
from tuneoff.engine.optimizer import MasterAdamW
from tuneoff.methods import METHODS, AdaptedModel, build
from tuneoff.prompts import Encoded, Prompter
from tuneoff.spec import GenerateSpec, PromptSpec

TinyModel = Callable[[str], Path]  # architecture -> folder of a random model
TRAINED = [name for name, method in METHODS.items() if method.trains]


def examples(count: int = 5) -> list[Example]:
    rows = [example_row(index) for index in range(count)]
    return [Example(row["id"], row["document"], (row["summary"],), group_id(row["document"])) for row in rows]


def encoded(base: models.BaseModel, count: int = 5) -> Sequence[Encoded]:
    prompter = Prompter(base.tokenizer, PromptSpec(max_length=128), max_new_tokens=8, reserved_tokens=20)
    rows, too_long = prompter.encode(examples(count), with_target=True)
    assert not too_long
    return rows


def train(adapted: AdaptedModel, rows: Sequence[Encoded], steps: int = 3, rate: float = 1e-2) -> None:
    torch.manual_seed(0)
    adapted.train_mode(True)
    optimizer = MasterAdamW(adapted.state().values(), 0.0)
    for _ in range(steps):
        batch = collate(rows, 0, CPU)
        (target_loss(adapted, batch) / len(batch.targets_N)).backward()
        for index in range(len(optimizer.parameters)):
            optimizer.accumulate(index)
        assert optimizer.step(rate, 1.0) > 0
    adapted.train_mode(False)


def logits(adapted: AdaptedModel, rows: Sequence[Encoded]) -> torch.Tensor:
    with torch.inference_mode():
        return target_logits(adapted, collate(rows, 0, CPU))


def logits_of_base(base: models.BaseModel, rows: Sequence[Encoded]) -> torch.Tensor:
    """Logits of the model before any method is applied to it."""
    return logits(build("zero_shot", {}).adapt(base, [], 0), rows)


def write_texts(
    adapted: AdaptedModel, base: models.BaseModel, rows: Sequence[Encoded], new_tokens: int, beams: int = 1
) -> list[GeneratedTokens]:
    spec = GenerateSpec(max_new_tokens=new_tokens, num_beams=beams)
    return generate(adapted, rows, spec, stop_ids=base.stop_ids, pad_id=0, device=CPU)
