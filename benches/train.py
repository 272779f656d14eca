"""Training speed and memory against the coursework's way and the best-configured peers (rows 1, 2, 3, 4, 7 and 11).

In each contest every contestant has its own process; they take turns, step by step, on the same batches. The first
steps of each are told as `cold`; targets are for the median of the steps after them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace

from contestants import RANK, Contestant, Job
from workload import (
    VIRTUAL_TOKENS,
    Row,
    Shape,
    Work,
    dtypes_usable,
    gemm_rates,
    judged,
    main,
    median,
    parser,
    ratio_of_medians,
    show,
    useful_operations,
)

from tuneoff.engine.precision import pick_device

COURSEWORK_TARGETS = {"full": 12.0, "lora": 18.0, "soft_prompt": 14.0}
PEER_TARGETS = {("lora", 0.0): 3.0, ("lora", 0.1): 3.5, ("soft_prompt", 0.0): 2.0, ("full", 0.0): 2.5}
FP32_TARGETS = {"lora": 2.0, "soft_prompt": 2.0, "full": 1.6}
MEMORY_TARGET, GEMM_SHARE_TARGET, PROMPT_TARGET = 0.5, 0.35, 1.05
COLD_STEPS = 40


@dataclass(frozen=True)
class Effort:
    """Steps of each contestant: the first `cold` ones apart. The coursework's way gets `slow` timed ones."""

    cold: int
    steady: int
    slow: int


def contest(jobs: Sequence[Job], effort: Effort, *, memory: bool) -> list[Contestant]:
    """All jobs by turns on the same batches; with `memory` a last step on the epoch's largest batch."""
    running = [Contestant(job) for job in jobs]
    try:
        for contestant in running:
            contestant.ready()
        for number in range(effort.cold + effort.steady):
            turn = number % len(running)
            for contestant in running[turn:] + running[:turn]:
                if contestant.job.kind != "coursework" or number < 1 + effort.slow:
                    contestant.step()
        for contestant in running:
            if memory and contestant.job.kind != "coursework":
                contestant.step("longest")
    finally:
        for contestant in running:
            contestant.end()
    for contestant in running:
        _tell(contestant, effort)
    return running


def steady(contestant: Contestant, effort: Effort) -> list[float]:
    """Seconds of the steps that count; the coursework's way is left out of all but its first step as a warm-up."""
    return contestant.seconds[1 if contestant.job.kind == "coursework" else effort.cold :]


def _tell(contestant: Contestant, effort: Effort) -> None:
    name = f"  {contestant.job.name:<44}"
    if contestant.failure is not None:
        print(f"{name} not measured: {contestant.failure}", flush=True)
        return
    middle = median(steady(contestant, effort))
    told = (
        "-" if middle is None else f"{middle:7.2f} s a step, {contestant.job.work.batch_size / middle:6.2f} examples/s"
    )
    first = f"first {contestant.seconds[0]:.2f} s"
    peak = "" if contestant.peak_bytes is None else f", peak {contestant.peak_bytes / 1e9:.2f} GB"
    print(f"{name} {told}, {first}{peak}", flush=True)


def same_steps(one: Contestant, other: Contestant, effort: Effort) -> tuple[list[float], list[float]]:
    """Times of the steps that both have done: the same batches on both sides."""
    start = 1 if "coursework" in (one.job.kind, other.job.kind) else effort.cold
    count = min(len(one.seconds), len(other.seconds))
    return one.seconds[start:count], other.seconds[start:count]


def peers(ours: Job, *, bf16: bool, trl: bool) -> list[Job]:
    """Every configuration of the peers that this machine is any good at. fp32 master weights are a must for `full`."""
    base = replace(ours, kind="trainer", weights="float32", autocast=False, fp32_adapter=True)
    jobs = [base]
    if bf16:
        jobs.append(replace(base, autocast=True))
        if ours.method != "full":
            jobs += [replace(base, weights="bfloat16", fp32_adapter=fp32) for fp32 in (True, False)]
    if trl:
        jobs += [replace(job, kind="sft") for job in tuple(jobs)]
    return jobs


def quick_ones(jobs: Sequence[Job]) -> list[Job]:
    """The fastest three by a second step each (the first one warms up), so that rounds are not spent on the rest."""
    if len(jobs) <= 2:
        return list(jobs)
    probed = contest(jobs, Effort(cold=1, steady=1, slow=1), memory=False)
    known = [contestant for contestant in probed if len(contestant.seconds) > 1]
    return [contestant.job for contestant in sorted(known, key=lambda contestant: contestant.seconds[1])[:3]]


def against_peers(
    ours: Job, effort: Effort, *, bf16: bool, trl: bool, coursework: bool, notes: str
) -> tuple[Contestant, Contestant | None, Contestant | None]:
    """One contest: ours, the best peer, and the coursework's way when it is wanted."""
    jobs = [ours, *quick_ones(peers(ours, bf16=bf16, trl=trl))]
    if coursework:
        jobs.append(replace(ours, kind="coursework", weights="float32"))
    print(f"\n{ours.method}, dropout {ours.dropout:g}{notes}", flush=True)
    done = contest(jobs, effort, memory=True)
    rivals = [one for one in done[1:] if one.job.kind != "coursework" and steady(one, effort)]
    best = min(rivals, key=lambda one: median(steady(one, effort)) or 0.0, default=None)
    slow = next((one for one in done if one.job.kind == "coursework"), None)
    return done[0], best, slow


def _ratio(peer: Contestant | None, ours: Contestant, effort: Effort) -> tuple[float | None, str]:
    """How many times ours is faster over the same steps, with what was measured or why it was not."""
    for one in (ours, peer):
        if one is None:
            return None, "no peer could be measured"
        if one.failure is not None:
            return None, f"{one.job.name}: {one.failure}"
    assert peer is not None
    theirs, own = same_steps(peer, ours, effort)
    cold = min(COLD_STEPS, effort.cold, len(peer.seconds), len(ours.seconds))
    cold_ratio = sum(peer.seconds[:cold]) / max(sum(ours.seconds[:cold]), 1e-9)
    note = f"against {peer.job.name}, {len(own)} steps; cold {cold_ratio:.3g} x over the first {cold}"
    return ratio_of_medians(theirs, own), note


def _gigabytes(ours: Contestant, peer: Contestant | None) -> str:
    """Both peaks, or why there is none."""
    failure = ours.failure or ("no peer could be measured" if peer is None else peer.failure)
    if failure is not None or peer is None:
        return failure or ""
    held = [f"{(one.peak_bytes or 0) / 1e9:.2f} GB ({one.job.name})" for one in (ours, peer)]
    return f"{' against '.join(held)}; the epoch's largest batch included"


def share_of_gemm(contestant: Contestant, effort: Effort, best_rate: float) -> float | None:
    """Useful operations of the steady steps over their time, against the best rate."""
    seconds = contestant.seconds[effort.cold :]
    if not seconds:
        return None
    shape = Shape(**{**contestant.shape, "windows": tuple(contestant.shape["windows"])})
    method = contestant.job.method
    rates = [
        useful_operations(
            shape,
            lengths,
            method,
            virtual=VIRTUAL_TOKENS if method == "soft_prompt" else 0,
            rank=RANK if method == "lora" else 0,
        )
        / taken
        for lengths, taken in zip(contestant.lengths[effort.cold :], seconds, strict=True)
    ]
    middle = median(rates)
    return None if middle is None else middle / best_rate


def own_rows(work: Work, effort: Effort, weights: str, *, short: bool) -> list[Row]:
    """Rows 4 and 7: our methods among themselves and against the machine's rate."""
    import torch

    lora = Job("ours", "lora", work, weights=weights)
    jobs = [lora, replace(lora, dropout=0.1), replace(lora, method="soft_prompt"), replace(lora, method="full")]
    print("\nour methods among themselves", flush=True)
    plain, dropped, prompt, full = contest(jobs, effort, memory=True)
    rows = []
    if plain.shape:
        shape = Shape(**{**plain.shape, "windows": tuple(plain.shape["windows"])})
        tokens = int(median([sum(map(sum, lengths)) for lengths in plain.lengths]) or 1024)
        rates = gemm_rates([getattr(torch, weights)], pick_device(), shape, tokens, short=short)
        for name, rate in rates.items():
            print(f"  {name:<44} {rate / 1e9:7.0f} GFLOP/s", flush=True)
        best = max(rates.values())
        for one, bound in ((plain, GEMM_SHARE_TARGET), (full, GEMM_SHARE_TARGET), (prompt, None)):
            note = one.failure or f"of {best / 1e9:.0f} GFLOP/s"
            share = share_of_gemm(one, effort, best)
            rows.append(judged(f"4.{one.job.method}", share, at_least=bound, unit="of the GEMM rate", note=note))
    for name, one in (("lora", plain), ("lora_dropout", dropped)):
        faster = ratio_of_medians(steady(one, effort), steady(full, effort))
        rows.append(
            judged(f"7.{name}.time", faster, at_most=1.0, unit="x full", note=one.failure or full.failure or "")
        )
        memory = one.peak_bytes / full.peak_bytes if one.peak_bytes and full.peak_bytes else None
        rows.append(
            judged(f"7.{name}.memory", memory, at_most=1.0, unit="x full", note=one.failure or full.failure or "")
        )
    rows.append(
        judged(
            "7.soft_prompt.time",
            _per_processed_token(prompt, plain, effort),
            at_most=PROMPT_TARGET,
            unit="x lora a processed token",
            note="virtual tokens are processed tokens",
        )
    )
    return rows


def _per_processed_token(prompt: Contestant, lora: Contestant, effort: Effort) -> float | None:
    def each(one: Contestant, virtual: int) -> list[float]:
        lengths = one.lengths[effort.cold :]
        return [
            taken / sum(sum(row) + virtual for row in rows)
            for taken, rows in zip(one.seconds[effort.cold :], lengths, strict=True)
        ]

    return ratio_of_medians(each(prompt, VIRTUAL_TOKENS), each(lora, 0))


def bench() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, help="steady steps of each contestant (default 10; short 2)")
    options.add_argument("--batch-size", type=int, help="rows of a batch (default 8; short 4)")
    options.add_argument(
        "--methods", nargs="+", choices=list(FP32_TARGETS), default=list(FP32_TARGETS), help="contests to hold"
    )
    options.add_argument("--no-own", action="store_true", help="leave out our methods among themselves (rows 4 and 7)")
    given = options.parse_args()
    rounds = given.rounds or (2 if given.short else 10)
    effort = Effort(cold=1 if given.short else 3, steady=rounds, slow=1 if given.short else 2)
    work = Work(given.model, given.data, given.batch_size or (4 if given.short else 8))
    for split in ("train", "val", "test"):
        work.file(split)
    device = pick_device()
    bf16 = len(dtypes_usable(device)) > 1
    weights = "bfloat16" if bf16 else "float32"
    trl = importlib.util.find_spec("trl") is not None
    if not bf16:
        print("bf16 is not clearly faster than fp32 here, so contestants in bf16 are left out")
    if not trl:
        print("TRL is not installed (extra `bench`), so its SFTTrainer is left out")

    rows = [] if given.no_own else own_rows(work, effort, weights, short=given.short)
    for (method, dropout), target in PEER_TARGETS.items():
        if method not in given.methods:
            continue
        name = f"{method}_dropout" if dropout else method
        coursework = method != "lora" or dropout > 0  # the coursework's LoRA has dropout 0.1
        ours, best, slow = against_peers(
            Job("ours", method, work, dropout, weights), effort, bf16=bf16, trl=trl, coursework=coursework, notes=""
        )
        if coursework:
            reached, note = _ratio(slow, ours, effort)
            rows.append(judged(f"1.{method}", reached, at_least=COURSEWORK_TARGETS[method], note=note))
        reached, note = _ratio(best, ours, effort)
        rows.append(judged(f"2.{name}", reached, at_least=target, note=note))
        memory = ours.peak_bytes / best.peak_bytes if best and best.peak_bytes and ours.peak_bytes else None
        rows.append(
            judged(f"3.{name}", memory, at_most=MEMORY_TARGET, unit="x its memory", note=_gigabytes(ours, best))
        )
        if dropout:
            continue
        if bf16:
            ours, best, _ = against_peers(
                Job("ours", method, work, dropout), effort, bf16=False, trl=trl, coursework=False, notes=", fp32 forced"
            )
            reached, note = _ratio(best, ours, effort)
        rows.append(judged(f"11.{method}", reached, at_least=FP32_TARGETS[method], note=note))
    show(f"training, model {work.model}, batch {work.batch_size}", sorted(rows, key=_order))


def _order(row: Row) -> int:
    return int(row.id.partition(".")[0])


if __name__ == "__main__":
    main(bench)
