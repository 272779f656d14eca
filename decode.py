"""Greedy generation against transformers' `generate` (row 6): documents/s, and whether the texts are the same.

Both sides get the same prompts in the same order (by length, which helps the peer too) and the same loaded weights.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig
from workload import (
    Row,
    Work,
    base_model,
    dataset,
    dtypes_usable,
    interleaved,
    judged,
    main,
    median,
    parser,
    prompter,
    show,
)

from tuneoff import metrics
from tuneoff.engine.decode import generate
from tuneoff.engine.precision import pick_device
from tuneoff.methods import build
from tuneoff.models import BaseModel
from tuneoff.prompts import Encoded
from tuneoff.spec import GenerateSpec

SPEED_TARGET = 2.5
ROUGE_TARGET = 0.2  # points
TIE = 1e-4  # two logits that are nearer than this may be ranked either way by rounding

Texts = list[tuple[int, ...]]


def ours(base: BaseModel, prompts: Sequence[Encoded], batch_size: int, new_tokens: int) -> Texts:
    """The product's own decoding."""
    adapted = build("zero_shot", {}).adapt(base, (), 0)
    spec = GenerateSpec(max_new_tokens=new_tokens, batch_size=batch_size)
    written = generate(
        adapted, prompts, spec, stop_ids=base.stop_ids, pad_id=base.pad_id, device=base.device
    )
    return [row.ids for row in written]


def peer(base: BaseModel, prompts: Sequence[Encoded], batch_size: int, new_tokens: int) -> Texts:
    """`model.generate` over left-padded batches."""
    config = GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=sorted(base.stop_ids),
        pad_token_id=base.pad_id,
    )
    texts: Texts = []
    for start in range(0, len(prompts), batch_size):
        rows = prompts[start : start + batch_size]
        width = max(len(row.prompt) for row in rows)
        ids = torch.tensor([[base.pad_id] * (width - len(row.prompt)) + list(row.prompt) for row in rows])
        mask = torch.tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows])
        with torch.inference_mode():
            output = base.model.generate(
                input_ids=ids.to(base.device), attention_mask=mask.to(base.device), generation_config=config
            )
        for new in output[:, width:].tolist():
            end = next((place for place, token in enumerate(new) if token in base.stop_ids), len(new))
            texts.append(tuple(new[:end]))
    return texts


@dataclass(frozen=True)
class Difference:
    """Where two texts part, and how far apart the two best logits are there."""

    id: str
    place: int
    gap: float


def differences(base: BaseModel, prompts: Sequence[Encoded], one: Texts, other: Texts) -> list[Difference]:
    """Every document whose texts differ, with the gap between its two best logits where they part (one unpadded row)."""
    found = []
    for prompt, left, right in zip(prompts, one, other, strict=True):
        if left == right:
            continue
        place = next(
            (at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
        )
        ids = torch.tensor([[*prompt.prompt, *left[:place]]], device=base.device)
        with torch.inference_mode():
            best = base.model(input_ids=ids).logits[0, -1].float().topk(2).values
        found.append(Difference(prompt.id, place, float(best[0] - best[1])))
    return found


@dataclass(frozen=True)
class Measured:
    """One dtype: seconds of each contestant by name, and its texts."""

    seconds: dict[str, list[float]]
    texts: dict[str, Texts]


def measure(
    base: BaseModel, prompts: Sequence[Encoded], batch_sizes: Sequence[int], new_tokens: int, rounds: int
) -> Measured:
    """Every contestant over all prompts, turn and turn about; `generate` of both sides at every batch size."""
    texts: dict[str, Texts] = {}

    def contestant(side: str, size: int):  # noqa: ANN202 - a closure over both
        def once(_round: int) -> float:
            begun = time.perf_counter()
            texts[f"{side} {size}"] = (ours if side == "ours" else peer)(base, prompts, size, new_tokens)
            return time.perf_counter() - begun

        return once

    ours(base, prompts[:2], 2, 2), peer(base, prompts[:2], 2, 2)  # warm both up
    contestants = {f"{side} {size}": contestant(side, size) for size in batch_sizes for side in ("ours", "transformers")}
    return Measured(interleaved(contestants, rounds), texts)


def best(seconds: dict[str, list[float]], side: str) -> str:
    """The name of a side's fastest configuration."""
    return min((name for name in seconds if name.startswith(side)), key=lambda name: median(seconds[name]) or 0.0)


def bench() -> None:
    options = parser(__doc__)
    options.add_argument("--documents", type=int, help="default 200; short 16")
    options.add_argument("--new-tokens", type=int, help="default 64; short 24")
    options.add_argument("--rounds", type=int, help="default 3; short 1")
    options.add_argument("--batch-sizes", type=int, nargs="+", help="default 8 16 32; short 8 16")
    given = options.parse_args()
    work = Work(given.model, given.data)
    count = given.documents or (16 if given.short else 200)
    new_tokens = given.new_tokens or (24 if given.short else 64)
    sizes = given.batch_sizes or ((8, 16) if given.short else (8, 16, 32))
    examples = dataset(work).test[:count]
    device = pick_device()

    times: dict[str, list[float]] = {}
    texts: dict[str, Texts] = {}
    rouge: dict[str, float] = {}
    ties: list[Difference] = []
    for dtype in dtypes_usable(device):
        name = str(dtype).removeprefix("torch.")
        base = base_model(work, device, dtype)
        encoder = prompter(work, base)
        prompts = sorted(encoder.encode(examples, with_target=False)[0], key=lambda row: -len(row.prompt))
        found = measure(base, prompts, sizes, new_tokens, given.rounds or (1 if given.short else 3))
        for contestant, seconds in found.seconds.items():
            middle = median(seconds) or 0.0
            print(f"  {contestant + ' ' + name:<28} {len(prompts) / middle:7.2f} documents/s", flush=True)
            times[f"{contestant} {name}"] = seconds
        for side in ("ours", "transformers"):
            chosen = best(found.seconds, side)
            texts[f"{side} {name}"] = found.texts[chosen]
            by_id = {example.id: example for example in examples}
            scores = [
                metrics.score(encoder.decode(ids), by_id[row.id].document, by_id[row.id].references)["rouge1"]
                for row, ids in zip(prompts, found.texts[chosen], strict=True)
            ]
            rouge[f"{side} {name}"] = sum(score or 0.0 for score in scores) / len(scores)
        if dtype == torch.float32:
            ties = differences(base, prompts, texts["ours float32"], texts["transformers float32"])
            for tie in ties:
                print(f"  texts of {tie.id!r} part at token {tie.place}: top logits {tie.gap:.1e} apart", flush=True)
    show(f"decoding, model {work.model}, {count} documents, {new_tokens} tokens", _rows(times, rouge, ties))


def _rows(times: dict[str, list[float]], rouge: dict[str, float], ties: list[Difference]) -> list[Row]:
    fast, slow = best(times, "ours"), best(times, "transformers")
    reached = (median(times[slow]) or 0.0) / (median(times[fast]) or 1.0)
    real = [tie for tie in ties if tie.gap > TIE]
    rows = [
        judged("6.speed", reached, at_least=SPEED_TARGET, note=f"{fast} against {slow}"),
        judged(
            "6.tokens.fp32", float(len(real)), at_most=0.0, unit="texts that differ", note=f"{len(ties) - len(real)} ties"
        ),
    ]
    if "ours bfloat16" in rouge:
        points = abs(rouge["ours bfloat16"] - rouge["transformers float32"])
        rows.append(judged("6.rouge.bf16", points, at_most=ROUGE_TARGET, unit="points", note="against fp32"))
    else:
        rows.append(
            judged("6.rouge.bf16", None, at_most=ROUGE_TARGET, unit="points", note="this machine has no fast bf16")
        )
    return rows


if __name__ == "__main__":
    main(bench)
