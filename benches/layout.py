"""Throughput of runs side by side: row 8.

    python benches/layout.py [--steps 6]

Each layout (processes x threads) trains as many LoRA runs as it has processes; the best of them is what the layout that
`--workers auto` chooses by its probe is compared with.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import psutil
import torch

import report
from tuneoff.engine.precision import has_fast_bf16
from tuneoff.resources import usable_cores
from tuneoff.study import layout

NEEDED = 3e9  # bytes of one of these runs, generously
RUN = """
import sys, torch
torch.set_num_threads({threads})
import contestants
print(sum(contestants.train("ours-{dtype}", "lora", "smollm2", {steps}, 0.0)["seconds"]))
"""


def runs_an_hour(processes: int, threads: int, steps: int) -> float:
    """As many runs as there are processes, at the same time."""
    dtype = "bf16" if has_fast_bf16(torch.device("cpu")) else "fp32"
    start = time.perf_counter()
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", RUN.format(threads=threads, steps=steps, dtype=dtype)],
            cwd=sys.path[0],
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
            stdout=subprocess.DEVNULL,
        )
        for _ in range(processes)
    ]
    if any(child.wait() for child in children):
        raise SystemExit("a run failed")
    return 3600 * processes / (time.perf_counter() - start)


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
    chosen = layout.choose(len(layouts) * 8, NEEDED, psutil.virtual_memory().available, cores)
    print(f"the probe chooses {chosen.processes} processes", file=sys.stderr)
    report.show(
        [report.at_least("8 throughput against the best layout", 0.95, rates[chosen.processes] / max(rates.values()))]
    )


if __name__ == "__main__":
    main()
