"""Writing new text: greedy with rows that leave the batch when they end, or beams through transformers.

Shapes: B rows still running, T positions so far (padding on the left), V vocabulary.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig

from tuneoff.engine.loss import Past, Trainable, accepts
from tuneoff.engine.parallel import Lanes
from tuneoff.engine.prefill import Prefilled, Reader, left_padded, positions
from tuneoff.errors import UserError
from tuneoff.prompts import Encoded
from tuneoff.spec import GenerateSpec

# Ended rows leave the batch when no more than this share is still running: leaving costs a copy of the cache.
_KEEP_UNTIL = 0.8
# Fewer rows would read all weights for little.
_WORTH_A_BATCH = 8


@dataclass(frozen=True)
class Written:
    """The new tokens of one prompt, EOS left out. `stopped`: the model ended the text itself."""

    id: str
    ids: tuple[int, ...]
    stopped: bool


def generate(
    adapted: Trainable,
    prompts: Sequence[Encoded],
    spec: GenerateSpec,
    *,
    stop_ids: frozenset[int],
    pad_id: int,
    device: torch.device,
    progress: Callable[[int], None] | None = None,
) -> list[Written]:
    """New text for every prompt, in the order of `prompts`. Deterministic; nothing is sampled.

    The model must be in evaluation mode.
    """
    if spec.num_beams > 1 and isinstance(adapted.prefix(), Past):
        raise UserError("keys and values in front of the prompt (prefix_tuning) need --num-beams 1")
    done: dict[int, Written] = {}
    # Rows of similar length share a batch, the longest first: if memory runs out, it does so at once.
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index].prompt))
    lanes, ready = Lanes(device), threading.Lock()
    with torch.inference_mode():
        reader = Reader(adapted, prompts, pad_id, device)

    def write(chosen: Sequence[int]) -> None:
        rows = [prompts[index] for index in chosen]
        with torch.inference_mode():
            if spec.num_beams == 1:
                texts = list(_greedy(adapted.model, rows, reader.read(rows, spec.max_new_tokens), spec, stop_ids))
            else:
                inputs = left_padded(adapted, rows, pad_id, device)
                texts = list(_beams(adapted.model, rows, *inputs, spec, stop_ids))
        with ready:
            done.update(zip(chosen, texts, strict=True))
            if progress is not None:
                progress(len(done))

    with _without_own_settings(adapted.model):
        lanes.map(write, [order[part] for part in _batches(len(order), spec.batch_size, lanes.pieces)])
    return [done[index] for index in range(len(prompts))]


def _batches(rows: int, most: int, pieces: int) -> list[slice]:
    """Where rows are cut: at most `most` to a batch, in equal parts, an even number of them where work goes in pieces
    and rows are enough. Whatever the number of threads: a text may hang on what shares its batch (ties)."""
    count = math.ceil(rows / most)
    if pieces > 1 and min(rows // 2, most) >= _WORTH_A_BATCH:
        count += count % 2
    return [slice(rows * place // count, rows * (place + 1) // count) for place in range(count)]


def _greedy(
    model: nn.Module, rows: Sequence[Encoded], start: Prefilled, spec: GenerateSpec, stop_ids: frozenset[int]
) -> Iterator[Written]:
    logits_BV, cache, mask_BT = start.logits_BV, start.cache, start.mask_BT
    device = mask_BT.device
    keep = {"logits_to_keep": 1} if accepts(model, "logits_to_keep") else {}
    texts: list[list[int]] = [[] for _ in rows]
    stopped = [False] * len(rows)
    held = list(range(len(rows)))  # the row of `rows` at each place of the batch; ended rows stay until enough have
    for written in range(spec.max_new_tokens):
        token_B = logits_BV.argmax(-1)
        for row, token in zip(held, token_B.tolist(), strict=True):
            if token in stop_ids:
                stopped[row] = True
            elif not stopped[row]:
                texts[row].append(token)
        if all(stopped) or written + 1 == spec.max_new_tokens:
            break
        places = [place for place, row in enumerate(held) if not stopped[row]]
        if len(places) <= _KEEP_UNTIL * len(held):
            left = torch.tensor(places, device=device)
            cache.reorder_cache(left)  # which layers of every kind know
            token_B, mask_BT = token_B[left], mask_BT[left]
            held = [held[place] for place in places]
        mask_BT = F.pad(mask_BT, (0, 1), value=1)
        last = {name: value[:, -1:] for name, value in positions(model, mask_BT).items()}
        output = model(
            input_ids=token_B[:, None], **last, **keep, attention_mask=mask_BT, past_key_values=cache, use_cache=True
        )
        logits_BV = output.logits[:, -1]
    for prompt, text, end in zip(rows, texts, stopped, strict=True):
        yield Written(prompt.id, tuple(text), end)


@contextlib.contextmanager
def _without_own_settings(model: nn.Module) -> Iterator[None]:
    """What a model's author sets for its writing (a repetition penalty) would act on beams, and on nothing else."""
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _beams(
    model: nn.Module,
    rows: Sequence[Encoded],
    inputs: dict[str, Tensor],
    mask_BT: Tensor,
    spec: GenerateSpec,
    stop_ids: frozenset[int],
) -> Iterator[Written]:
    config = GenerationConfig(
        max_new_tokens=spec.max_new_tokens,
        num_beams=spec.num_beams,
        do_sample=False,
        eos_token_id=sorted(stop_ids),
        pad_token_id=min(stop_ids),
    )
    output_BT = model.generate(**inputs, attention_mask=mask_BT, generation_config=config)  # type: ignore[operator]
    if "input_ids" in inputs:  # with embeddings transformers returns the new tokens alone
        output_BT = output_BT[:, inputs["input_ids"].shape[1] :]
    for row, ids in zip(rows, output_BT.tolist(), strict=True):
        end = next((place for place, token in enumerate(ids) if token in stop_ids), None)
        yield Written(row.id, tuple(ids[:end]), end is not None)
