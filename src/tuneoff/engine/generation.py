"""Deterministic text generation: greedy decoding on a preallocated KV cache, or beam search by transformers.

In greedy decoding, rows that have ended leave the batch.

Shapes: B rows still in the batch, T positions so far (padded on the left), V vocabulary.
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
from transformers import GenerationConfig, LogitsProcessorList

from tuneoff import stopping
from tuneoff.engine.kernels.packed_layers import check_packed_weights
from tuneoff.engine.loss import KeyValuePrefix, VirtualTokenModel, dtype_of, forward_accepts
from tuneoff.engine.memory import retry_smaller
from tuneoff.engine.parallel import ParallelWorkers
from tuneoff.engine.prefill import (
    PrefilledBatch,
    Prefiller,
    changes_frequencies,
    left_padded_inputs,
    position_inputs,
)
from tuneoff.errors import RunFailure, UserError
from tuneoff.prompts import Encoded
from tuneoff.spec import GenerateSpec

# Ended rows leave the batch when at most this fraction of its rows is still running: it costs a copy of the cache.
_COMPACT_AT = 0.8
# A batch with fewer rows reads all weights for too little work.
_MIN_BATCH_ROWS = 8


class NotFinite(RunFailure):
    """The logits of a text hold NaN, or an infinity where the next token was to be chosen."""

    def __init__(self, id: str) -> None:
        super().__init__(f"the logits are not finite while the text of {id} is generated")


@dataclass(frozen=True)
class GeneratedTokens:
    """The new tokens of one prompt, without EOS."""

    id: str
    """Id of the prompt."""
    token_ids: tuple[int, ...]
    stopped: bool
    """Whether the model ended the text itself; otherwise it reached the token limit."""


def generate(
    adapted: VirtualTokenModel,
    prompts: Sequence[Encoded],
    spec: GenerateSpec,
    *,
    stop_ids: frozenset[int],
    pad_id: int,
    device: torch.device,
    progress: Callable[[int], None] | None = None,
    note: Callable[[str], None] = lambda _text: None,
    parts: int = 1,
) -> list[GeneratedTokens]:
    """Generate text for every prompt; returns the texts in the order of `prompts`.

    The model must be in evaluation mode. `progress` receives the number of finished prompts, possibly from another
    thread. Batches are `parts` times smaller than `spec` says, and smaller still if memory runs out, of which `note`
    is informed. Where two tokens tie, a text may then be another one.

    Raises:
        UserError: Beam search with keys and values as prefix, which transformers does not support.
        NotFinite: The model's logits are not finite.
        Stopped: This process was asked to end.
    """
    if spec.num_beams > 1 and isinstance(adapted.prefix(), KeyValuePrefix):
        raise UserError("prefix_tuning does not support beam search; set --num-beams 1")
    done: dict[int, GeneratedTokens] = {}
    # Rows of similar length share a batch, the longest first: if memory is too small, generation fails at once.
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index].prompt))
    workers = ParallelWorkers(device, dtype_of(adapted.model), alone=changes_frequencies(adapted.model))
    lock = threading.Lock()
    check_packed_weights(adapted.model)
    with torch.inference_mode():
        prefiller = Prefiller(adapted, prompts, pad_id, device)

    def work(indices: Sequence[int]) -> None:
        stopping.check()
        rows = [prompts[index] for index in indices]
        with torch.inference_mode():
            if spec.num_beams == 1:
                start = prefiller.prefill(rows, spec.max_new_tokens)
                texts = list(_decode_greedily(adapted.model, rows, start, spec, stop_ids))
            else:
                inputs, mask_BT = left_padded_inputs(adapted, rows, pad_id, device)
                texts = list(_search_beams(adapted.model, rows, inputs, mask_BT, spec, stop_ids))
        with lock:
            done.update(zip(indices, texts, strict=True))
            if progress is not None:
                progress(len(done))

    def attempt(parts: int) -> None:
        left = [index for index in order if index not in done]
        batches = _generation_batches(len(left), max(1, spec.batch_size // parts), workers.multiple)
        workers.map(work, [left[batch] for batch in batches], sequential=parts > 1)

    with _default_generation_config(adapted.model):
        retry_smaller(attempt, parts, spec.batch_size, "generation", note)
    return [done[index] for index in range(len(prompts))]


def _generation_batches(rows: int, batch_size: int, multiple: int) -> list[slice]:
    """Split `rows` rows into batches of nearly equal size, at most `batch_size` rows each.

    The number of batches is even where batches are computed concurrently and none gets too small. It does not depend on
    the number of threads: where two tokens tie, a text can depend on the other rows of its batch.
    """
    count = math.ceil(rows / batch_size)
    if multiple > 1 and min(rows // 2, batch_size) >= _MIN_BATCH_ROWS:
        count += count % 2
    return [slice(rows * index // count, rows * (index + 1) // count) for index in range(count)]


def _decode_greedily(
    model: nn.Module, rows: Sequence[Encoded], start: PrefilledBatch, spec: GenerateSpec, stop_ids: frozenset[int]
) -> Iterator[GeneratedTokens]:
    logits_BV, cache, mask_BT = start.logits_BV, start.cache, start.mask_BT
    device = mask_BT.device
    keep = {"logits_to_keep": 1} if forward_accepts(model, "logits_to_keep") else {}
    texts: list[list[int]] = [[] for _ in rows]
    stopped = [False] * len(rows)
    batch_rows = list(range(len(rows)))  # index in `rows` of each row of the batch; may include ended rows
    for step in range(spec.max_new_tokens):
        token_B = logits_BV.argmax(-1)
        finite_B = logits_BV.gather(-1, token_B[:, None])[:, 0].isfinite()  # argmax takes a NaN for the largest
        for row, token, finite in zip(batch_rows, token_B.tolist(), finite_B.tolist(), strict=True):
            if not finite:
                raise NotFinite(rows[row].id)
            if token in stop_ids:
                stopped[row] = True
            elif not stopped[row]:
                texts[row].append(token)
        if all(stopped) or step + 1 == spec.max_new_tokens:
            break
        running = [index for index, row in enumerate(batch_rows) if not stopped[row]]
        if len(running) <= _COMPACT_AT * len(batch_rows):
            keep_B = torch.tensor(running, device=device)
            cache.reorder_cache(keep_B)  # the one row selection that cache layers of all kinds support
            token_B, mask_BT = token_B[keep_B], mask_BT[keep_B]
            batch_rows = [batch_rows[index] for index in running]
        mask_BT = F.pad(mask_BT, (0, 1), value=1)
        last = {name: value[:, -1:] for name, value in position_inputs(model, mask_BT).items()}
        output = model(
            input_ids=token_B[:, None], **last, **keep, attention_mask=mask_BT, past_key_values=cache, use_cache=True
        )
        logits_BV = output.logits[:, -1]
    for prompt, text, end in zip(rows, texts, stopped, strict=True):
        yield GeneratedTokens(prompt.id, tuple(text), end)


@contextlib.contextmanager
def _default_generation_config(model: nn.Module) -> Iterator[None]:
    """Disable generation settings of the model's author, such as a repetition penalty.

    They would affect beam search only.
    """
    original = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = original


class _FiniteScores:
    """Changes no score; raises `NotFinite` for scores that no token can be chosen from."""

    def __init__(self, rows: Sequence[Encoded], num_beams: int) -> None:
        self._rows, self._num_beams = rows, num_beams

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002 - as transformers calls it
        # The softmax spreads a NaN or an infinity over its row, and the largest of a row with a NaN is that NaN.
        broken_N = ~scores.amax(-1).isfinite()
        if bool(broken_N.any()):
            raise NotFinite(self._rows[int(broken_N.nonzero()[0]) // self._num_beams].id)
        return scores


def _search_beams(
    model: nn.Module,
    rows: Sequence[Encoded],
    inputs: dict[str, Tensor],
    mask_BT: Tensor,
    spec: GenerateSpec,
    stop_ids: frozenset[int],
) -> Iterator[GeneratedTokens]:
    config = GenerationConfig(
        max_new_tokens=spec.max_new_tokens,
        num_beams=spec.num_beams,
        do_sample=False,
        eos_token_id=sorted(stop_ids),
        pad_token_id=min(stop_ids),
    )
    check = LogitsProcessorList([_FiniteScores(rows, spec.num_beams)])
    output_BT = model.generate(  # type: ignore[operator]
        **inputs, attention_mask=mask_BT, generation_config=config, logits_processor=check
    )
    if "input_ids" in inputs:  # given embeddings, transformers returns the new tokens only
        output_BT = output_BT[:, inputs["input_ids"].shape[1] :]
    for row, ids in zip(rows, output_BT.tolist(), strict=True):
        end = next((index for index, token in enumerate(ids) if token in stop_ids), None)
        yield GeneratedTokens(row.id, tuple(ids[:end]), end is not None)
