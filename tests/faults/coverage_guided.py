"""Feed a reader with bytes that reach new code of it, for as long as you like; needs `pip install atheris`::

    python tests/faults/coverage_guided.py jsonl -max_total_time=600

An answer is an object or a `UserError` in one line. Anything else is printed with the bytes that led to it. Arguments
behind the name of the reader are those of libFuzzer.
"""

import importlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SEEDS = {
    "jsonl": b'{"document": "A text.", "summary": "s"}\n' * 3,
    "json": b'[{"document": "A text.", "summary": "s"}, {"document": "B", "summary": "t"}]',
    "csv": b'document,summary\n"A text, long.",s\nB,t\n',
    "gguf": b"GGUF\x03\0\0\0" + bytes(8) + b"\x01" + bytes(7) + b"\x14" + bytes(7) + b"general.architecture\x08\0\0\0",
    "safetensors": b'\x3a\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}    \0\0\0\0',
    "manifest": b'{"version": 1, "files": {"a": {"sha256": "0", "bytes": 1}}, "sha256": "0"}',
    "record": b'{"run_id": "a", "name": "a", "status": "finished", "spec": {}, "curve": {"train": []}}',
    "toml": b'name = "x"\nmethods = ["lora"]\n[data]\ntrain_file = "a.jsonl"\n[hyperparameters.lora]\nr = 4\n',
    "ratings": b'{"kind": "tuneoff ratings", "study": "s", "runs": ["a"], "methods": ["a"], "ratings": []}',
    "scores": b"system,example,score\na,1,0.5\nb,1,0.7\n",
}


def readers() -> dict[str, Callable[[Path], object]]:
    """What reads the file of each kind."""
    from tuneoff.data import load_dataset
    from tuneoff.model_folder import gguf_architecture, read_header
    from tuneoff.results.manifest import parse_manifest
    from tuneoff.results.run_dir import RunDir
    from tuneoff.scores.reading import read_score_files
    from tuneoff.spec import DataSpec
    from tuneoff.study.study_file import read_study
    from tuneoff.verdict.ratings import read_ratings

    def read_data(path: Path) -> object:
        return load_dataset(DataSpec(train_file=str(path)))

    return {
        **dict.fromkeys(("jsonl", "json", "csv"), read_data),
        "gguf": gguf_architecture,
        "safetensors": read_header,
        "manifest": lambda path: parse_manifest(path.read_bytes(), path),
        "record": lambda path: RunDir(path.parent).read_record(),
        "toml": read_study,
        "ratings": read_ratings,
        "scores": lambda path: read_score_files([str(path)]),
    }


_NAMES = {"record": "record.json", "manifest": "manifest.json", "scores": "scores.csv", "toml": "study.toml"}


def main() -> None:
    """Fuzz the reader that is named first."""
    kind = sys.argv.pop(1)
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["tuneoff"]):
        from tuneoff.errors import UserError

        read = readers()[kind]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUNEOFF_CACHE"] = str(Path(folder, "cache"))
        place, seeds = Path(folder, "file"), Path(folder, "seeds")
        place.mkdir()
        seeds.mkdir()
        path = place / _NAMES.get(kind, f"file.{kind}")
        (seeds / "one").write_bytes(_SEEDS[kind])

        def once(data: bytes) -> None:
            path.write_bytes(data)
            try:
                read(path)
            except UserError as error:
                assert "\n" not in str(error), error  # noqa: PT017

        atheris.Setup([*sys.argv, "-max_len=4096", str(seeds)], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
