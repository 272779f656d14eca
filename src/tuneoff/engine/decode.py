"""Writing new text: greedy with rows that leave the batch when they end, or beams through transformers.

Shapes: B rows still running, T prompt positions (padding on the left), V virtual tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig

from tuneoff.engine.cache import decoding_cache
from tuneoff.engine.forward import Trainable, accepts, with_prefix
from tuneoff.prompts import Encoded
from tuneoff.spec import GenerateSpec

# Ended rows leave the batch when no more than this share is still running: leaving costs a copy of the cache.
_KEEP_UNTIL = 0.8


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
    done: dict[int, Written] = {}
    # Rows of similar length share a batch, the longest first: if memory runs out, it does so at once.
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index].prompt))
    write = _greedy if spec.num_beams == 1 else _beams
    with torch.inference_mode():
        for start in range(0, len(order), spec.batch_size):
            chosen = order[start : start + spec.batch_size]
            rows = [prompts[index] for index in chosen]
            inputs, mask_BT = _left_padded(adapted, rows, pad_id, device)
            for index, written in zip(chosen, write(adapted.model, rows, inputs, mask_BT, spec, stop_ids), strict=True):
                done[index] = written
            if progress is not None:
                progress(len(done))
    return [done[index] for index in range(len(prompts))]


def _left_padded(
    adapted: Trainable, rows: Sequence[Encoded], pad_id: int, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """Ids or embeddings with padding on the left, and the mask of what is real.

    Virtual tokens stand between the padding and the text, so they are beside the text in every row.
    """
    width = max(len(row.prompt) for row in rows)
    prefix_VD = adapted.prefix()
    if prefix_VD is None:
        ids_BT = torch.full((len(rows), width), pad_id, dtype=torch.long)
        mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            ids_BT[index, width - len(row.prompt) :] = torch.tensor(row.prompt)
            mask_BT[index, width - len(row.prompt) :] = 1
        return {"input_ids": ids_BT.to(device)}, mask_BT.to(device)
    virtual = len(prefix_VD)
    mask_BT = torch.zeros((len(rows), virtual + width), dtype=torch.long, device=device)
    pieces = []
    for index, row in enumerate(rows):
        ids_1T = torch.tensor([row.prompt], device=device)
        text_1XD = with_prefix(adapted.model, ids_1T, prefix_VD)
        pieces.append(F.pad(text_1XD, (0, 0, width - len(row.prompt), 0)))
        mask_BT[index, width - len(row.prompt) :] = 1
    return {"inputs_embeds": torch.cat(pieces)}, mask_BT


def _positions(model: nn.Module, mask_BT: Tensor) -> dict[str, Tensor]:
    if not accepts(model, "position_ids"):
        return {}
    return {"position_ids": (mask_BT.cumsum(-1) - 1).clamp(min=0)}


def _greedy(
    model: nn.Module,
    rows: Sequence[Encoded],
    inputs: dict[str, Tensor],
    mask_BT: Tensor,
    spec: GenerateSpec,
    stop_ids: frozenset[int],
) -> Iterator[Written]:
    device = mask_BT.device
    stops = torch.tensor(sorted(stop_ids), device=device)
    cache = decoding_cache(model, spec.max_new_tokens)
    keep = {"logits_to_keep": 1} if accepts(model, "logits_to_keep") else {}
    texts: list[list[int]] = [[] for _ in rows]
    stopped = [False] * len(rows)
    held = list(range(len(rows)))  # the row of `rows` at each place of the batch; ended rows stay until enough have
    positions = _positions(model, mask_BT)
    for written in range(spec.max_new_tokens):
        output = model(**inputs, **positions, **keep, attention_mask=mask_BT, past_key_values=cache, use_cache=True)
        token_B = output.logits[:, -1].argmax(-1)
        for row, token, ends in zip(held, token_B.tolist(), torch.isin(token_B, stops).tolist(), strict=True):
            if ends:
                stopped[row] = True
            elif not stopped[row]:
                texts[row].append(token)
        if all(stopped) or written + 1 == spec.max_new_tokens:
            break
        places = [place for place, row in enumerate(held) if not stopped[row]]
        if len(places) <= _KEEP_UNTIL * len(held):
            left = torch.tensor(places, device=device)
            cache.batch_select_indices(left)
            token_B, mask_BT = token_B[left], mask_BT[left]
            held = [held[place] for place in places]
        mask_BT = F.pad(mask_BT, (0, 1), value=1)
        positions = {name: value[:, -1:] for name, value in _positions(model, mask_BT).items()}
        inputs = {"input_ids": token_B[:, None]}
    for prompt, text, end in zip(rows, texts, stopped, strict=True):
        yield Written(prompt.id, tuple(text), end)


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
