"""What all benches share: the work, its arithmetic, the machine's rate, and the form of a result.

The work: SciTLDR (abstracts), batches of 8 in the engine's own order, prompts by the engine's own template, so that
every contestant sees the same ids. Model: the starter, or the architecture of GPT-Neo-125M with random weights.

Shapes in names: T positions of a row, N target tokens, P weights of the matrices inside the blocks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff import data, models
from tuneoff.engine.batching import epoch_batches, length
from tuneoff.errors import UserError
from tuneoff.prompts import Encoded, Prompter
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "scitldr_a"
GPT_NEO = "gpt_neo"
SEED = 1
MAX_LENGTH = 512
MAX_NEW_TOKENS = 64
VIRTUAL_TOKENS = 20
LEARNING_RATES = {"lora": 1e-3, "soft_prompt": 1e-2, "full": 1e-4}


# --- the work ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """What is computed. `model`: `starter`, `gpt_neo`, or a folder; `data_folder` holds train, val, test.jsonl."""

    model: str = "starter"
    data_folder: str = str(DATA)
    batch_size: int = 8
    max_length: int = MAX_LENGTH
    max_new_tokens: int = MAX_NEW_TOKENS

    def file(self, split: str) -> str:
        """The JSONL file of a split. Raises `UserError` when it is not there."""
        path = Path(self.data_folder) / f"{split}.jsonl"
        if not path.is_file():
            raise UserError(f"no {path.name} in {path.parent}: the benches need that data; name its folder with --data")
        return str(path)


def dataset(work: Work) -> data.Dataset:
    """The three splits, cleaned as in a study."""
    return data.load(
        DataSpec(train_file=work.file("train"), validation_file=work.file("val"), test_file=work.file("test"))
    )


def base_model(work: Work, device: torch.device, dtype: torch.dtype) -> models.BaseModel:
    """The model of the work. GPT-Neo has random weights (seeded) and the starter's tokenizer, whose ids all fit."""
    if work.model != GPT_NEO:
        return models.load(ModelSpec(name=work.model), device, dtype)
    import torch
    from transformers import AutoModelForCausalLM, GPTNeoConfig

    tokenizer = models.load_tokenizer(ModelSpec(name="starter"))
    # The shape of EleutherAI/gpt-neo-125m, from its config.json.
    config = GPTNeoConfig(
        vocab_size=50257,
        hidden_size=768,
        num_layers=12,
        num_heads=12,
        attention_types=[[["global", "local"], 6]],
        window_size=256,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    assert len(tokenizer) <= config.vocab_size
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).to(device).eval()
    model.requires_grad_(False)
    return models.BaseModel(model=model, tokenizer=tokenizer, device=device, dtype=dtype, name=GPT_NEO)


def prompter(work: Work, base: models.BaseModel) -> Prompter:
    """The engine's own, with room for the virtual tokens whatever the method, as in a study that has a soft prompt."""
    spec = PromptSpec(max_length=work.max_length)
    return Prompter(base.tokenizer, spec, max_new_tokens=work.max_new_tokens, reserved_tokens=VIRTUAL_TOKENS)


def longest_batch(batches: Sequence[Sequence[Encoded]]) -> list[Encoded]:
    """The batch of an epoch that needs the most memory: rows times the longest row."""
    return list(max(batches, key=lambda batch: len(batch) * max(length(row) for row in batch)))


def training_batches(work: Work, rows: Sequence[Encoded]) -> list[list[Encoded]]:
    """The batches of the first epoch, in the order in which `engine.train.fit` takes them with `SEED`."""
    return epoch_batches(rows, work.batch_size, SEED, 0)


# --- arithmetic ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """What of a model decides the operations of a step. `windows`: attention window of each block, None for all."""

    block_weights: int  # P
    linear_ends: int  # inputs + outputs, summed over the matrices inside the blocks: LoRA has r times as many weights
    attention_width: int  # heads x width of a head
    windows: tuple[int | None, ...]
    head_weights: int  # vocabulary x width


def shape_of(model: PreTrainedModel) -> Shape:
    """Counted from the modules: every matrix but the head and the embeddings stands in a block."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]
    config = model.config
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kinds = getattr(config, "attention_layers", None) or getattr(config, "layer_types", None) or []
    window = getattr(config, "window_size", None) or getattr(config, "sliding_window", None)
    local = [kind in ("local", "sliding_attention") for kind in kinds] or [False] * config.num_hidden_layers
    return Shape(
        block_weights=sum(weight.numel() for weight in matrices),
        linear_ends=sum(sum(weight.shape) for weight in matrices),
        attention_width=heads * width,
        windows=tuple(window if is_local else None for is_local in local),
        head_weights=head.weight.numel(),
    )


def attended_pairs(positions: int, window: int | None) -> int:
    """How many (query, key) pairs causal attention over `positions` positions has; a window bounds the keys."""
    reach = positions if window is None else min(window, positions)
    return reach * (reach + 1) // 2 + (positions - reach) * reach


def useful_operations(
    shape: Shape, lengths: Iterable[tuple[int, int]], method: str, *, virtual: int = 0, rank: int = 0
) -> int:
    """Multiplications and additions that a training step cannot do without.

    `lengths`: prompt and target tokens of each row. Nothing is counted for padding, for the last target token (no token
    is predicted from it), for the head where no target is predicted, for recomputation, norms, activations, softmax or
    the optimiser.

    Forward: a matrix of P weights costs 2P a position; attention 2 products of 2 x attention width for each pair.
    Backward: the gradient of a matrix' input costs what its forward costs, the gradient of its weights as much again,
    which frozen matrices are spared; attention's 4 products cost twice the forward's 2. Counted although a frozen
    embedding spares it: the input gradient of the first block's q, k and v (under 1 %).
    """
    factor = 3 if method == "full" else 2
    total = 0
    for prompt, target in lengths:
        positions = virtual + prompt + target - 1
        total += factor * 2 * shape.block_weights * positions
        total += factor * 2 * shape.head_weights * target
        total += 3 * sum(4 * shape.attention_width * attended_pairs(positions, window) for window in shape.windows)
        total += 3 * 2 * rank * shape.linear_ends * positions
    return total


# --- the machine's rate --------------------------------------------------------------------------------------------


def gemm_rates(
    dtypes: Sequence[torch.dtype], device: torch.device, shape: Shape, tokens: int, *, short: bool
) -> dict[str, float]:
    """Operations a second of the best products on all threads: squares, and (tokens x D) (D x D') of the model."""
    from tuneoff.engine.precision import gemm_rate

    rates: dict[str, float] = {}
    width = shape.attention_width
    for dtype in dtypes:
        name = str(dtype).removeprefix("torch.")
        for square in (2048,) if short else (2048, 4096):
            rates[f"{name} square {square}"] = gemm_rate(dtype, device, square, repeats=3 if short else 10)
        for outputs in (width, 4 * width):
            key = f"{name} {tokens} x {width} x {outputs}"
            rates[key] = _product_rate(dtype, device, tokens, width, outputs, 5 if short else 20)
    return rates


def _product_rate(dtype: torch.dtype, device: torch.device, rows: int, inner: int, columns: int, repeats: int) -> float:
    import torch

    left = torch.ones(rows, inner, dtype=dtype, device=device)
    right = torch.ones(columns, inner, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        torch.nn.functional.linear(left, right)[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * rows * inner * columns / max(best, 1e-9)


# --- measuring -----------------------------------------------------------------------------------------------------


def peak_memory_bytes() -> int:
    """The high-water mark of this process' resident set since it began."""
    import resource

    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def median(values: Sequence[float]) -> float | None:
    """None for no values: a mean of nothing is not 0."""
    return statistics.median(values) if values else None


def ratio_of_medians(peer: Sequence[float], ours: Sequence[float]) -> float | None:
    """How many times longer the peer takes; None when one of the two has no time."""
    slow, fast = median(peer), median(ours)
    return None if slow is None or fast is None or fast <= 0 else slow / fast


def interleaved(contestants: dict[str, Callable[[int], float]], rounds: int) -> dict[str, list[float]]:
    """Call each with the round's number, turn and turn about, in an order that changes from round to round."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            taken[name].append(contestants[name](number))
    return taken


# --- results -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the table of targets. `reached` is None when it was not measured, and `note` says why."""

    id: str
    target: str
    reached: float | None
    met: bool | None
    unit: str = "x"
    note: str = ""


def judged(
    id: str,
    reached: float | None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    unit: str = "x",
    note: str = "",
) -> Row:
    """A row whose target is a bound. With neither bound the figure is only told."""
    if at_least is not None:
        target, met = f">= {at_least:g}", None if reached is None else reached >= at_least
    elif at_most is not None:
        target, met = f"<= {at_most:g}", None if reached is None else reached <= at_most
    else:
        target, met = "told", None
    return Row(id, f"{target} {unit}".strip(), reached, met, unit, note)


def show(title: str, rows: Sequence[Row]) -> None:
    """The table for people, then the line for programs as the last one."""
    print(f"\n{title}")
    cells = [("row", "target", "reached", "met", "note")]
    for row in rows:
        reached = "-" if row.reached is None else f"{row.reached:.3g} {row.unit}".strip()
        cells.append((row.id, row.target, reached, {True: "yes", False: "no", None: "-"}[row.met], row.note))
    widths = [max(len(line[place]) for line in cells) for place in range(4)]
    for line in cells:
        print("  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[4]]).rstrip())
    print(json.dumps({"rows": [asdict(row) for row in rows]}), flush=True)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every bench has."""
    options = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    options.add_argument("--short", action="store_true", help="fewer rounds and documents; noisier")
    options.add_argument("--model", default="starter", help="starter, gpt_neo (random weights), or a model folder")
    options.add_argument("--data", default=str(DATA), help="folder with train.jsonl, val.jsonl and test.jsonl")
    return options


def main(bench: Callable[[], None]) -> None:
    """Run a bench; what the user got wrong is one sentence on stderr and exit code 2."""
    try:
        bench()
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def dtypes_usable(device: torch.device) -> list[Any]:
    """fp32, and bf16 where this machine is good at it."""
    import torch

    from tuneoff.engine.precision import has_fast_bf16

    return [torch.float32, torch.bfloat16] if has_fast_bf16(device) else [torch.float32]
