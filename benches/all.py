"""All rows: the short form (`make bench`) or the whole (`make bench-full`).

The whole takes hours where bf16 is not fast, so each part's rows are kept in `runs/bench-full`, and the same command
goes on with the parts that are missing. A part that was measured by other code, with other flags or on another machine
is measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import report
from tuneoff.engine.precision import has_fast_bf16
from tuneoff.profiling import describe_machine

HERE = Path(__file__).parent
AFTERWARDS = ("report", "verdict", "trackers")  # packages that no bench runs
SHORT = {
    "train": ["--short"],
    "losses": ["--steps", "3", "--validation", "8", "--methods", "lora"],
    "decode": ["--documents", "16", "--batch-sizes", "16"],
    "layout": ["--steps", "2"],
    "trunk": ["--steps", "3", "--rounds", "1"],
    "start": ["--repeats", "3"],
    "growth": ["--sizes", "1000", "10000"],
    "large": ["--sizes", "50x200", "--events", "100000", "--states", "100000"],
}
FULL = {
    "start": ["--repeats", "9"],
    "layout": ["--steps", "6"],
    "train": ["--steps", "4", "--rounds", "3"],
    "train gpt-neo": ["--steps", "3", "--rounds", "3", "--model", "gpt-neo"],
    "train cold": ["--cold", "40"],
    "decode": ["--documents", "200", "--batch-sizes", "32", "64"],
    "trunk": [],
    "growth": ["--sizes", "1000", "10000", "100000", "1000000"],
    "losses": [],
    "halving": [],
}


def measure(name: str, flags: list[str]) -> list[dict[str, Any]] | None:
    """The rows of one part; None when it fails, which is said on stderr."""
    print(f"== {name}", file=sys.stderr, flush=True)
    script = HERE / f"{name.split()[0]}.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *flags], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        print(f"{name}: failed with exit code {done.returncode}", file=sys.stderr)
        return None
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])["rows"]
    model = " (gpt-neo)" if "gpt-neo" in name else ""
    return [row | {"id": row["id"] + model} for row in rows]


def circumstances() -> str:
    """Equal for figures that may stand in one table: the same code, libraries and machine."""
    digest = hashlib.sha256()
    package = HERE.parent / "src" / "tuneoff"
    measured = [file for file in package.rglob("*.py") if file.relative_to(package).parts[0] not in AFTERWARDS]
    benches = set(HERE.glob("*.py")) - {Path(__file__)}  # the flags of a part are looked at by themselves
    for file in sorted([*benches, *measured]):
        digest.update(file.read_bytes())
    told = describe_machine()
    here = [told["cpu"], told["usable_cores"], has_fast_bf16(torch.device("cpu")), torch.__version__]
    return hashlib.sha256(json.dumps([digest.hexdigest(), *here]).encode()).hexdigest()


def kept(path: Path, wanted: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of a part that was measured in the wanted circumstances."""
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = found.pop("rows")
    return rows if found == wanted else None


def main() -> None:
    """Run every bench, one after the other, and print their rows as one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every row at full length, in as many sittings as it takes")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts of it, for example 'train gpt-neo'")
    parser.add_argument(
        "--output", type=Path, default=HERE.parent / "runs" / "bench-full", help="keeps parts of --full"
    )
    chosen = parser.parse_args()
    plan = FULL if chosen.full else SHORT
    if unknown := sorted(set(chosen.only or ()) - set(plan)):
        parser.error(f"no such part: {', '.join(unknown)}; choose from {', '.join(plan)}")
    here = circumstances() if chosen.full else ""
    rows: list[dict[str, Any]] = []
    for name, flags in plan.items():
        path = chosen.output / f"{name.replace(' ', '-')}.json"
        wanted = {"flags": flags, "circumstances": here}
        found = kept(path, wanted) if chosen.full else None
        if found is None and (not chosen.only or name in chosen.only):
            found = measure(name, flags)
            if found is not None and chosen.full:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(wanted | {"rows": found}, indent=1) + "\n", encoding="utf-8")
        rows += found or []
    report.show([report.Row(**row) for row in rows])


if __name__ == "__main__":
    main()
