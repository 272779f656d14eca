"""Preparation of 1,000 to 1,000,000 unique pairs: row 10.

    python benches/growth.py [--sizes 1000 10000 100000 1000000]

Each size in three processes of their own: the bare tokenizer on the same texts (in batches, its output dropped), the
first preparation (read, clean, split, encode, into an empty cache), and the second, which finds what the first left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import report

WORDS = 120  # words of a document
TEXTS_AT_ONCE = 1000  # of the bare tokenizer
SIZES = [1000, 10000, 100000]


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


def texts_of(path: Path) -> Iterator[str]:
    """Documents and summaries of a file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield from json.loads(line).values()


def tokenizer_folder() -> Path:
    """Of the starter model; found before the cache is moved, for it lies there."""
    from tuneoff import models
    from tuneoff.spec import ModelSpec

    return models.weights_folder(ModelSpec(name="starter"))


def tokenize(path: Path, model: str) -> dict[str, float]:
    """Seconds that the bare tokenizer takes for the texts; reading them is not counted."""
    from tuneoff import models
    from tuneoff.spec import ModelSpec

    tokenizer = models.load_tokenizer(ModelSpec(name=model))
    seconds = 0.0
    part: list[str] = []
    for text in texts_of(path):
        part.append(text)
        if len(part) == TEXTS_AT_ONCE:
            seconds += timed(tokenizer, part)
            part = []
    return {"seconds": seconds + (timed(tokenizer, part) if part else 0.0)}


def timed(tokenizer: Any, texts: list[str]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    tokenizer(texts)
    return time.perf_counter() - start


def prepare(path: Path, model: str) -> dict[str, float]:
    """Seconds of preparing all three splits, and the peak memory in bytes."""
    from tuneoff import data, models
    from tuneoff.prompts import Prompter
    from tuneoff.spec import DataSpec, ModelSpec, PromptSpec

    tokenizer = models.load_tokenizer(ModelSpec(name=model))
    start = time.perf_counter()
    dataset = data.load_dataset(DataSpec(train_file=str(path)))
    prompter = Prompter(tokenizer, PromptSpec(), max_new_tokens=64)
    rows = 0
    for split in (dataset.train, dataset.validation, dataset.test):
        encoded, _ = prompter.encode(split, with_target=True)
        rows += len(encoded)
    seconds = time.perf_counter() - start
    assert encoded[0].prompt
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "peak": peak, "rows": rows}


PARTS = {"tokenize": tokenize, "prepare": prepare}


def alone(part: str, path: Path, model: Path, cache: Path) -> dict[str, float]:
    """The answer of a part in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--part", part, str(path), str(model)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"TUNEOFF_CACHE": str(cache)},
    )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--part", nargs=3, metavar=("PART", "FILE", "MODEL"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        part, file, model = chosen.part
        print(json.dumps(PARTS[part](Path(file), model)))
        return
    bare, first, second = [], [], []
    of_model = tokenizer_folder()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        for size in chosen.sizes:
            path = Path(folder) / f"{size}.jsonl"
            write(path, size)
            bare.append(alone("tokenize", path, of_model, cache))
            first.append(alone("prepare", path, of_model, cache))
            second.append(alone("prepare", path, of_model, cache))
            print(
                f"{size} pairs: tokenizer {bare[-1]['seconds']:.2f} s, first {first[-1]['seconds']:.2f} s and "
                f"{first[-1]['peak'] / 1e6:.0f} MB, second {second[-1]['seconds']:.2f} s and "
                f"{second[-1]['peak'] / 1e6:.0f} MB",
                file=sys.stderr,
            )
            path.unlink()
    of_a_row = [one["seconds"] / one["rows"] for one in first]
    more = [max(one["peak"] for one in which) - which[0]["peak"] for which in (first, second)]
    report.show(
        [
            report.at_most("10 memory above the smallest size, first, MB", 200, more[0] / 1e6),
            report.at_most("10 memory above the smallest size, second, MB", 200, more[1] / 1e6),
            report.at_most(
                "10 first preparation against the bare tokenizer", 1.2, first[-1]["seconds"] / bare[-1]["seconds"]
            ),
            report.at_most(
                "10 second preparation against the bare tokenizer", 0.2, second[-1]["seconds"] / bare[-1]["seconds"]
            ),
            report.at_most("10 time a row, largest against the middle size", 1.2, of_a_row[-1] / of_a_row[-2]),
        ]
    )


if __name__ == "__main__":
    main()
