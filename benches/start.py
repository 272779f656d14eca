"""How long a run and the command line take to start: row 9.

python benches/start.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import report

# What a run of a study does before its first step, in a process that its study keeps warm (modules are imported).
READY = """
import time, torch
import workload
from tuneoff.prompts import Encoded
import peft
dataset = workload.dataset()
for _ in range({repeats}):
    start = time.perf_counter()
    base = workload.base_model("smollm2", torch.bfloat16)
    workload.rows(base, "train", 64)
    print(time.perf_counter() - start)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    helps = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "from tuneoff.cli import main; main(['--help'])"],
            stdout=subprocess.DEVNULL,
            check=False,
        )
        helps.append(time.perf_counter() - start)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", READY.format(repeats=repeats)],
        capture_output=True,
        text=True,
        check=True,
        cwd=sys.path[0],
    )
    whole = time.perf_counter() - start
    warm = [float(line) for line in done.stdout.split()]
    print(f"cold, first of a study: {whole - sum(warm[1:]):.2f} s", file=sys.stderr)
    report.show(
        [
            report.at_most("9 start of a run, warm, s", 1.5, statistics.median(warm[1:])),
            report.at_most("9 tuneoff --help, s", 0.3, statistics.median(helps)),
        ]
    )


if __name__ == "__main__":
    main()
