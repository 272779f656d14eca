"""How long a run and the command line take to start, and `judge` to answer: row 9.

python benches/start.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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

SYSTEMS, ITEMS, SEEDS = 5, 5000, 3


def write_scores(path: Path) -> None:
    """A table of scores with a row for each system, item and seed."""
    chance = random.Random(0)
    easy = [chance.gauss(30, 10) for _ in range(ITEMS)]
    rows = [
        f"system{system},item{item},{seed},{easy[item] + system + chance.gauss(0, 5):.4f}"
        for system in range(SYSTEMS)
        for seed in range(SEEDS)
        for item in range(ITEMS)
    ]
    path.write_text("\n".join(["system,item,seed,score", *rows]), encoding="utf-8")


def seconds_of(*arguments: str) -> float:
    """Wall time of the command line."""
    code = "import sys; from tuneoff.cli import main; sys.exit(main(sys.argv[1:]))"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    helps = [seconds_of("--help") for _ in range(repeats)]
    with tempfile.TemporaryDirectory() as folder:
        scores = Path(folder, "scores.csv")
        write_scores(scores)
        judged = [seconds_of("judge", str(scores)) for _ in range(repeats)]
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
            report.at_most(f"9 judge, {SYSTEMS} x {ITEMS:,} x {SEEDS} scores, s", 3.0, statistics.median(judged)),
        ]
    )


if __name__ == "__main__":
    main()
