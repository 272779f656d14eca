"""Throughput of runs side by side: row 8.

    python benches/layout.py [--steps 6]

Each layout (processes x threads) trains as many LoRA runs as it has processes, all at the same time; the best of them
is what the layout that `--workers auto` chooses by its probe is compared with. The start of a run is row 9 and left out
here: a study's processes are warm.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

import psutil
import torch

import report
from tuneoff.engine.precision import has_fast_bf16
from tuneoff.profiling import usable_cores
from tuneoff.study import concurrency
from tuneoff.study.launcher import RUNTIME

NEEDED = 3e9  # bytes of one of these runs, generously
RUN = """
import sys, torch
torch.set_num_threads({threads})
import contestants
print(contestants.train("ours-{dtype}", "lora", "smollm2", {steps} + 1, 0.0)["seconds"])
"""


def runs_an_hour(processes: int, threads: int, steps: int) -> float:
    """As many runs as there are processes, at the same time. A first step, before all have begun, does not count."""
    dtype = "bf16" if has_fast_bf16(torch.device("cpu")) else "fp32"
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", RUN.format(threads=threads, steps=steps, dtype=dtype)],
            cwd=sys.path[0],
            env=os.environ | RUNTIME,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    answers = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise SystemExit("a run failed")
    seconds = [statistics.mean(json.loads(answer.splitlines()[-1])[1:]) for answer in answers]
    return sum(3600 / (steps * each) for each in seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    steps = parser.parse_args().steps
    cores = usable_cores()
    layouts = [(processes, cores // processes) for processes in range(1, cores + 1) if cores % processes == 0]
    rates = {}
    for processes, threads in layouts:
        rates[processes] = runs_an_hour(processes, threads, steps)
        print(f"{processes} processes x {threads} threads: {rates[processes]:.0f} runs an hour", file=sys.stderr)
    chosen = concurrency.choose(len(layouts) * 8, NEEDED, psutil.virtual_memory().available, cores)
    print(f"the probe chooses {chosen.processes} processes", file=sys.stderr)
    report.show(
        [report.at_least("8 throughput against the best layout", 0.95, rates[chosen.processes] / max(rates.values()))]
    )


if __name__ == "__main__":
    main()
