"""Training speed and memory against the peers: rows 1, 2, 3, 4, 7 and 11 of `make bench`.

Targets are those of the processor's class. Without fast bf16 products everyone computes in fp32, and row 11 is row 2.

    python benches/train.py [--short] [--steps N] [--rounds N] [--model smollm2|gpt-neo] [--only-method lora]
    python benches/train.py --cold 40

Contestants run one after the other in fresh processes, in `--rounds` interleaved rounds; medians over steady steps.
`--cold N` compares the first N steps of LoRA instead, with all that comes before them once the model is loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import report
from tuneoff.engine.precision import has_fast_bf16, has_matrix_units
from tuneoff.study.launcher import RUNTIME

HERE = Path(__file__)
Plan = dict[tuple[str, float], tuple[str, ...]]  # (method, dropout) -> contestants
PLAN: Plan = {
    ("lora", 0.0): ("ours-bf16", "trainer-autocast", "trainer-bf16", "sft-bf16", "coursework"),
    ("lora", 0.1): ("ours-bf16", "trainer-autocast", "trainer-bf16"),
    ("soft_prompt", 0.0): ("ours-bf16", "trainer-autocast", "trainer-bf16", "coursework"),
    ("full", 0.0): ("ours-bf16", "trainer-autocast", "coursework"),
}
# The short form leaves out peers that were slower, or alike, in single rounds.
SHORT_PLAN: Plan = {
    ("lora", 0.0): ("ours-bf16", "trainer-autocast", "coursework"),
    ("lora", 0.1): ("ours-bf16", "trainer-autocast", "trainer-bf16"),
    ("soft_prompt", 0.0): ("ours-bf16", "trainer-bf16", "coursework"),
    ("full", 0.0): ("ours-bf16", "trainer-autocast", "coursework"),
}
FP32_PLAN: Plan = {
    ("lora", 0.0): ("ours-fp32", "trainer-fp32", "sft-fp32", "coursework"),
    ("lora", 0.1): ("ours-fp32", "trainer-fp32"),
    ("soft_prompt", 0.0): ("ours-fp32", "trainer-fp32", "coursework"),
    ("full", 0.0): ("ours-fp32", "trainer-fp32", "coursework"),
}
FP32_SHORT_PLAN: Plan = FP32_PLAN | {("lora", 0.0): ("ours-fp32", "trainer-fp32", "coursework")}
SHORT_STEPS = {"ours-fp32": 2, "trainer-fp32": 2, "coursework": 1}  # 3 for all others
FP32 = ("ours-fp32", "trainer-fp32")
COURSEWORK_STEPS = 2  # a step takes half a minute


@dataclass(frozen=True)
class Targets:
    """What a step should reach on one class of processors, by method and dropout."""

    ratios: dict[tuple[str, float], float]
    """Times as fast as the best peer."""
    shares: dict[tuple[str, float], float]
    """Of the rate of matrix products."""


def _targets(ratios: Sequence[float], shares: Sequence[float]) -> Targets:
    plain, dropped, soft, full = ratios
    with_dropout, full_share, soft_share = shares
    return Targets(
        {("lora", 0.0): plain, ("lora", 0.1): dropped, ("soft_prompt", 0.0): soft, ("full", 0.0): full},
        {("lora", 0.1): with_dropout, ("full", 0.0): full_share, ("soft_prompt", 0.0): soft_share},
    )


def targets_here() -> Targets:
    """Those of this processor."""
    if has_matrix_units():
        return _targets((4, 5, 3.5, 3.5), (0.35, 0.35, 0.40))
    if fast_bf16():
        return _targets((2.2, 2.5, 2, 2), (0.60, 0.60, 0.65))
    return _targets((2, 2, 2, 1.6), (0.75, 0.70, 0.75))


def fast_bf16() -> bool:
    """Whether contestants compute in bf16 here."""
    return has_fast_bf16(torch.device("cpu"))


def gemm_rates() -> dict[str, float]:
    """Best rate in operations a second over large squares and SmolLM2's shapes at one batch, by dtype."""
    shapes = [(2048, 2048, 2048), (4096, 4096, 4096), (1880, 576, 1536), (1880, 1536, 576), (1880, 576, 576)]
    rates = {}
    for dtype in (torch.float32, torch.bfloat16) if fast_bf16() else (torch.float32,):
        best = 0.0
        for m, k, n in shapes:
            left, right = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
            for _ in range(6):
                start = time.perf_counter()
                torch.nn.functional.linear(left, right)
                best = max(best, 2 * m * k * n / (time.perf_counter() - start))
        rates[str(dtype).removeprefix("torch.")] = best
    return rates


def contestant(name: str, method: str, dropout: float, model: str, steps: int) -> dict[str, Any] | None:
    """One contestant in a process of its own; None when what it needs is not installed or it fails (said on stderr)."""
    wanted = {"name": name, "method": method, "dropout": dropout, "model": model, "steps": steps}
    # Peers are run as their users run them, but for the threads that would spin.
    waiting = {variable: value for variable, value in RUNTIME.items() if not variable.startswith("MALLOC")}
    runtime = RUNTIME if name.startswith("ours") else waiting
    done = subprocess.run(
        [sys.executable, str(HERE), "--contestant", json.dumps(wanted)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | runtime | {"TRL_EXPERIMENTAL_SILENCE": "1"},
    )
    if done.returncode:
        print(f"{name} {method}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(
    model: str, steps: int, rounds: int, only: str | None, *, short: bool
) -> dict[tuple[str, float, str], dict[str, Any]]:
    """Everything of the plan; rounds are merged."""
    merged: dict[tuple[str, float, str], dict[str, Any]] = {}
    plans = (SHORT_PLAN, PLAN) if fast_bf16() else (FP32_SHORT_PLAN, FP32_PLAN)
    plan = plans[0] if short else plans[1]
    jobs = [(method, dropout, name) for (method, dropout), names in plan.items() for name in names]
    if fast_bf16():
        jobs += [(method, dropout, name) for (method, dropout) in plan if dropout == 0.0 for name in FP32]
    for number in range(rounds):
        for method, dropout, name in jobs:
            if (only and method != only) or (number and name == "coursework"):
                continue
            count = COURSEWORK_STEPS if name == "coursework" else steps
            if short:
                count = SHORT_STEPS.get(name, 3)
            found = contestant(name, method, dropout, model, count)
            if found is None:
                continue
            first = int(count > 1)  # the first step is cold; a single one has to do
            rate = sum(found["rows"][first:]) / sum(found["seconds"][first:])
            flop = sum(found["useful_flop"][first:]) / sum(found["seconds"][first:])
            entry = merged.setdefault((method, dropout, name), {"rate": [], "flop": [], "peak": [], "first": []})
            entry["rate"].append(rate)
            entry["flop"].append(flop)
            entry["peak"].append(found["peak_bytes"])
            if first:  # by token: the first batch is the longest
                steady = sum(found["seconds"][1:]) / sum(found["tokens"][1:])
                entry["first"].append(found["seconds"][0] / found["tokens"][0] / steady)
            entry["tokens"] = sum(found["tokens"][first:]) / sum(found["rows"][first:])
            print(
                f"{method:12} dropout {dropout} {name:18} {8 / rate:6.2f} s a batch, "
                f"first {found['seconds'][0]:6.2f} s, {flop / 1e9:4.0f} GFLOP/s, "
                f"peak {found['peak_bytes'] / 1e9:5.2f} GB",
                file=sys.stderr,
            )
    return merged


def contenders() -> tuple[str, ...]:
    """Ours, then its peers."""
    if fast_bf16():
        return "ours-bf16", "trainer-autocast", "trainer-bf16", "sft-bf16"
    return "ours-fp32", "trainer-fp32", "sft-fp32"


def cold(steps: int, model: str) -> list[report.Row]:
    """The first steps of LoRA against the quickest peer."""
    seconds = {}
    for name in contenders():
        found = contestant(name, "lora", 0.0, model, steps)
        if found is not None:
            seconds[name] = found["cold_seconds"]
            print(f"{name:18} {steps} steps, cold: {seconds[name]:.1f} s", file=sys.stderr)
    mine = seconds.pop(contenders()[0])
    peer = min(seconds, key=lambda name: seconds[name])
    return [report.at_least(f"2 first {steps} steps of lora, cold, against {peer}", 1, seconds[peer] / mine)]


def rows(found: dict[tuple[str, float, str], dict[str, Any]], gemm: dict[str, float]) -> list[report.Row]:
    """The rows of the table that these measurements answer."""
    ours, *peers = contenders()
    products = gemm["bfloat16" if ours == "ours-bf16" else "float32"]
    rate = {key: statistics.median(entry["rate"]) for key, entry in found.items()}
    peak = {key: statistics.median(entry["peak"]) for key, entry in found.items()}
    out: list[report.Row] = []

    def best(method: str, dropout: float, *names: str) -> tuple[str, float, str]:
        there = [(method, dropout, name) for name in names if (method, dropout, name) in rate]
        return max(there, key=lambda key: rate[key])

    for method, target in (("full", 12), ("lora", 18), ("soft_prompt", 14)):
        if (method, 0.0, "coursework") in rate:
            ratio = rate[method, 0.0, ours] / rate[method, 0.0, "coursework"]
            out.append(report.at_least(f"1 {method} against the coursework's way", target, ratio))
    targets = targets_here()
    for (method, dropout), target in targets.ratios.items():
        if (method, dropout, ours) in rate:
            peer = best(method, dropout, *peers)
            ratio = rate[method, dropout, ours] / rate[peer]
            out.append(report.at_least(f"2 {method} dropout {dropout} against {peer[2]}", target, ratio))
            share = peak[method, dropout, ours] / peak[peer]
            out.append(report.at_most(f"3 peak memory, {method} dropout {dropout}, against {peer[2]}", 0.5, share))
    for (method, dropout), target in targets.shares.items():
        if (method, dropout, ours) in found:
            entry = found[method, dropout, ours]
            share = statistics.median(entry["flop"]) / products
            out.append(report.at_least(f"4 share of the GEMM rate, {method} dropout {dropout}", target, share))
            if entry["first"]:
                first = statistics.median(entry["first"])
                out.append(report.at_most(f"first step, by token, against a steady one, {method}", 1.5, first))
    if ("lora", 0.0, ours) in rate and ("full", 0.0, ours) in rate:
        lora, full = ("lora", 0.0, ours), ("full", 0.0, ours)
        out.append(report.at_most("7 time of LoRA against full", 1, rate[full] / rate[lora]))
        out.append(report.at_most("7 memory of LoRA against full", 1, peak[lora] / peak[full]))
        soft = ("soft_prompt", 0.0, ours)
        tokens = found[soft]["tokens"]
        out.append(
            report.at_most("7 soft prompt against LoRA, per processed token", 1.05,
                           rate[lora] / rate[soft] * tokens / (tokens + 20))
        )  # fmt: skip
    for method, target in (("lora", 2), ("soft_prompt", 2), ("full", 1.6)) if fast_bf16() else ():
        if (method, 0.0, "trainer-fp32") in rate:
            ratio = rate[method, 0.0, "ours-fp32"] / rate[method, 0.0, "trainer-fp32"]
            out.append(report.at_least(f"11 fp32 {method} against trainer-fp32", target, ratio))
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="smollm2", choices=("smollm2", "gpt-neo"))
    parser.add_argument("--only-method")
    parser.add_argument("--short", action="store_true", help="fewer peers, two or three steps each")
    parser.add_argument("--cold", type=int, metavar="STEPS", help="only the first steps of LoRA, from the start")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contestant:
        import contestants

        wanted = json.loads(chosen.contestant)
        print(json.dumps(contestants.train(**wanted)))
        return
    if chosen.cold:
        report.show(cold(chosen.cold, chosen.model))
        return
    gemm = gemm_rates()
    print({dtype: f"{rate / 1e9:.0f} GFLOP/s" for dtype, rate in gemm.items()}, file=sys.stderr)
    found = measure(chosen.model, chosen.steps, chosen.rounds, chosen.only_method, short=chosen.short)
    report.show(rows(found, gemm))


if __name__ == "__main__":
    main()
