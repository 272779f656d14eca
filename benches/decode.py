"""Greedy generation against transformers' `generate` at its best batch size and dtype: row 6.

    python benches/decode.py [--documents 64] [--rounds 1] [--batch-sizes 16 32 64]

bf16 is left out on a machine without fast bf16 products.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
import workload

import report
from tuneoff import metrics
from tuneoff.engine import generation
from tuneoff.engine.kernels import use_fast_paths
from tuneoff.engine.precision import has_fast_bf16
from tuneoff.prompts import Encoded
from tuneoff.spec import GenerateSpec

NEW = 48
TIE = 1e-4


class _Plain:
    """A base model as the engine sees it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def suffix(self) -> None:
        return None

    def prefix(self) -> None:
        return None


def ours(base: Any, prompts: Sequence[Encoded], batch_size: int) -> list[list[int]]:
    """New tokens by tuneoff's engine, of a model that takes its paths."""
    written = generation.generate(
        _Plain(base.model),
        prompts,
        GenerateSpec(max_new_tokens=NEW, batch_size=batch_size),
        stop_ids=base.stop_ids,
        pad_id=base.pad_id,
        device=base.device,
    )
    return [list(row.token_ids) for row in written]


def theirs(base: Any, prompts: Sequence[Encoded], batch_size: int) -> list[list[int]]:
    """New tokens by transformers, prompts sorted by length, padded on the left."""
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index].prompt))
    out: list[list[int]] = [[] for _ in prompts]
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            width = max(len(prompts[index].prompt) for index in chosen)
            ids = torch.full((len(chosen), width), base.pad_id)
            mask = torch.zeros_like(ids)
            for place, index in enumerate(chosen):
                prompt = prompts[index].prompt
                ids[place, width - len(prompt) :] = torch.tensor(prompt)
                mask[place, width - len(prompt) :] = 1
            texts = base.model.generate(
                ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, eos_token_id=sorted(base.stop_ids),
                pad_token_id=base.pad_id, temperature=None, top_p=None, top_k=None,
            )  # fmt: skip
            for index, text in zip(chosen, texts[:, width:].tolist(), strict=True):
                end = next((place for place, token in enumerate(text) if token in base.stop_ids), None)
                out[index] = text[:end]
    return out


def differs_beyond_ties(base: Any, prompts: Sequence[Encoded], mine: list[list[int]], other: list[list[int]]) -> int:
    """Texts whose first different token is no tie (its two best logits lie further apart than `TIE`)."""
    bad = 0
    for prompt, left, right in zip(prompts, mine, other, strict=True):
        if left == right:
            continue
        same = next(
            (place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
        )
        ids = torch.tensor([[*prompt.prompt, *left[:same]]])
        with torch.inference_mode():
            top = base.model(ids).logits[0, -1].float().topk(2).values
        apart = float(top[0] - top[1])
        print(f"{prompt.id}: differs at token {same}, top-2 logits {apart:.1e} apart", file=sys.stderr)
        bad += apart > TIE
    return bad


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 32, 64])
    chosen = parser.parse_args()
    fast = has_fast_bf16(torch.device("cpu"))
    dtypes = (torch.bfloat16, torch.float32) if fast else (torch.float32,)
    bases = {dtype: workload.base_model("smollm2", dtype) for dtype in dtypes}
    own = {dtype: workload.base_model("smollm2", dtype) for dtype in dtypes}
    for base in own.values():
        use_fast_paths(base.model, base.device)
    prompts = workload.rows(bases[torch.float32], "test", chosen.documents, with_target=False)
    seconds: dict[tuple[str, str, int], list[float]] = {}
    texts: dict[tuple[str, str], list[list[int]]] = {}
    for _ in range(chosen.rounds):
        for batch_size in chosen.batch_sizes:
            for dtype in dtypes:
                for name, write, base in (("ours", ours, own[dtype]), ("generate", theirs, bases[dtype])):
                    start = time.perf_counter()
                    texts[name, str(dtype)] = write(base, prompts, batch_size)
                    took = time.perf_counter() - start
                    seconds.setdefault((name, str(dtype), batch_size), []).append(took)
                    print(f"{name} {dtype} batch {batch_size}: {len(prompts) / took:.2f} documents/s", file=sys.stderr)
    best = {
        who: min(statistics.median(times) for (name, _, _), times in seconds.items() if name == who)
        for who in ("ours", "generate")
    }
    fp32, bf16 = str(torch.float32), str(torch.bfloat16)
    examples = {example.id: example for example in workload.dataset().test}
    tokenizer = bases[torch.float32].tokenizer

    def rouge(ids: list[list[int]]) -> float:
        scores = []
        for prompt, text in zip(prompts, ids, strict=True):
            example = examples[prompt.id]
            words = tokenizer.decode(text, skip_special_tokens=True).strip()
            scores.append(metrics.score(words, example.document, example.references, stopped=True)["rouge1"] or 0.0)
        return statistics.mean(scores)

    bad = differs_beyond_ties(bases[torch.float32], prompts, texts["ours", fp32], texts["generate", fp32])
    out = [
        report.at_least("6 documents/s against generate, each at its best", 2.5, best["generate"] / best["ours"]),
        report.at_most("6 fp32 texts that differ beyond ties", 0, bad),
    ]
    if fast:
        apart = abs(rouge(texts["ours", bf16]) - rouge(texts["ours", fp32]))
        out.append(report.at_most("6 bf16 ROUGE-1 away from fp32, points", 0.2, apart))
    report.show(out)


if __name__ == "__main__":
    main()
