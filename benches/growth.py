"""Preparation of 1,000 to 1,000,000 unique pairs: row 10.

    python benches/growth.py [--sizes 1000 10000 100000]

Each size in a process of its own: read, clean, split and encode, against the bare tokenizer on the same texts.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report

WORDS = 120  # words of a document


def write(path: Path, count: int) -> None:
    """`count` different pairs of random words."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(4000)]
    with path.open("w", encoding="utf-8") as out:
        for index in range(count):
            text = " ".join(rng.choices(words, k=WORDS))
            out.write(
                json.dumps({"document": f"{index} {text}.", "summary": " ".join(rng.choices(words, k=12))}) + "\n"
            )


def prepare(path: Path) -> dict[str, float]:
    """Seconds of preparation and of the bare tokenizer, and the peak memory in bytes."""
    from tuneoff import data, models
    from tuneoff.prompts import Prompter
    from tuneoff.spec import DataSpec, ModelSpec, PromptSpec

    tokenizer = models.load_tokenizer(ModelSpec(name="starter"))
    start = time.perf_counter()
    dataset = data.load(DataSpec(train_file=str(path)))
    prompter = Prompter(tokenizer, PromptSpec(), max_new_tokens=64)
    prompter.encode(dataset.train, with_target=True)
    ours = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    texts = [example.document for example in dataset.train] + [example.references[0] for example in dataset.train]
    start = time.perf_counter()
    tokenizer(texts)
    return {"ours": ours, "bare": time.perf_counter() - start, "peak": peak, "rows": len(dataset.train)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--prepare", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.prepare:
        print(json.dumps(prepare(Path(chosen.prepare))))
        return
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for size in chosen.sizes:
            path = Path(folder) / f"{size}.jsonl"
            write(path, size)
            done = subprocess.run(
                [sys.executable, __file__, "--prepare", str(path)], capture_output=True, text=True, check=True
            )
            one = json.loads(done.stdout.splitlines()[-1])
            found.append(one)
            print(
                f"{size} pairs: {one['ours']:.1f} s, tokenizer {one['bare']:.1f} s, {one['peak'] / 1e9:.2f} GB",
                file=sys.stderr,
            )
            path.unlink()
    last = found[-1]
    report.show(
        [
            report.at_most("10 memory above the smallest size, MB", 200, (last["peak"] - found[0]["peak"]) / 1e6),
            report.at_most("10 preparation against the bare tokenizer", 1.2, last["ours"] / last["bare"]),
            report.at_most(
                "10 time a row, largest against the middle size", 1.2,
                last["ours"] / last["rows"] / (found[-2]["ours"] / found[-2]["rows"]),
            ),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
