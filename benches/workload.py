"""What all benches work on: SmolLM2-135M or a random GPT-Neo-125M, and abstracts of scitldr_a.

The data is read from the folder TUNEOFF_BENCH_DATA (default: `../shared/data/scitldr_a`); when it is not there, the
starter documents stand in.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tuneoff import data, models
from tuneoff.prompts import Encoded, Prompter
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec

if TYPE_CHECKING:
    from tuneoff.data import Dataset
    from tuneoff.models import BaseModel

BATCH = 8
MODELS = ("smollm2", "gpt-neo")


def dataset() -> Dataset:
    """scitldr_a where it is at hand, else the starter set."""
    folder = Path(os.environ.get("TUNEOFF_BENCH_DATA", Path(__file__).parents[2] / "shared" / "data" / "scitldr_a"))
    if not folder.exists():
        return data.load_dataset(DataSpec(source="starter"))
    return data.load_dataset(
        DataSpec(
            train_file=str(folder / "train.jsonl"),
            validation_file=str(folder / "val.jsonl"),
            test_file=str(folder / "test.jsonl"),
        )
    )


def base_model(name: str, dtype: torch.dtype) -> BaseModel:
    """The model called `name` (one of `MODELS`) on the CPU; GPT-Neo has random weights and SmolLM2's tokenizer."""
    base = models.load_model(ModelSpec(name="starter"), torch.device("cpu"), dtype)
    if name == "smollm2":
        return base
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    torch.manual_seed(0)
    config = GPTNeoConfig(
        hidden_size=768, num_layers=12, num_heads=12, attention_types=[[["global", "local"], 6]], window_size=256,
        vocab_size=50257, max_position_embeddings=2048,
    )  # fmt: skip
    return dataclasses.replace(base, model=GPTNeoForCausalLM(config).to(dtype).requires_grad_(False).eval())


def rows(base: BaseModel, split: str, count: int, *, with_target: bool = True, reserved: int = 20) -> list[Encoded]:
    """The first `count` examples of a split as token ids, cut as in a run of the default settings."""
    prompter = Prompter(base.tokenizer, PromptSpec(), max_new_tokens=64, reserved_tokens=reserved)
    examples = getattr(dataset(), split)[:count]
    return list(prompter.encode(examples, with_target=with_target)[0])


def tokens(encoded: Sequence[Encoded]) -> int:
    """Prompt and target tokens, without padding."""
    return sum(len(row.prompt) + len(row.target) for row in encoded)
