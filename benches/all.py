"""All rows: the short form (`make bench`) or the whole (`make bench-full`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import report

SHORT = {
    "train": ["--short"],
    "losses": ["--steps", "3", "--validation", "8", "--methods", "lora"],
    "decode": ["--documents", "16", "--batch-sizes", "16"],
    "layout": ["--steps", "2"],
    "start": ["--repeats", "3"],
    "growth": ["--sizes", "1000", "10000"],
}
FULL = {
    "train": ["--steps", "40", "--rounds", "3"],
    "train gpt-neo": ["--steps", "40", "--rounds", "3", "--model", "gpt-neo"],
    "losses": [],
    "decode": ["--documents", "200", "--rounds", "3"],
    "layout": ["--steps", "20"],
    "start": ["--repeats", "9"],
    "growth": ["--sizes", "1000", "10000", "100000", "1000000"],
    "halving": [],
}


def main() -> None:
    """Run every bench, one after the other, and print their rows as one table."""
    plan = FULL if "--full" in sys.argv[1:] else SHORT
    rows = []
    for name, flags in plan.items():
        print(f"== {name}", file=sys.stderr, flush=True)
        script = Path(__file__).with_name(f"{name.split()[0]}.py")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script), *flags], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            print(f"{name}: failed with exit code {done.returncode}", file=sys.stderr)
            continue
        for row in json.loads(done.stdout.splitlines()[-1])["rows"]:
            model = " (gpt-neo)" if "gpt-neo" in name else ""
            rows.append(report.Row(**(row | {"id": row["id"] + model})))
    report.show(rows)


if __name__ == "__main__":
    main()
