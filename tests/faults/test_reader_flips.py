"""Data files with changed bytes are read, or refused in one sentence: no other error, no crash, no endless work."""

import json
import os
import random
import signal
import struct
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.data import load_dataset
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec

_ROWS = [
    {"id": f"d{at}", "document": f"A document of number {at}. " * 4, "summary": f"Number {at}.", "list": ["a"], "n": at}
    for at in range(40)
]
_BATCH = 250  # trials in one process
_MOST_SECONDS = 60


def _jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in _ROWS))


def _json(path: Path) -> None:
    path.write_text(json.dumps(_ROWS))


def _csv(path: Path) -> None:
    lines = (f'{row["id"]},"{row["document"]}","{row["summary"]}"' for row in _ROWS)
    path.write_text("\n".join(["id,document,summary", *lines]) + "\n")


def _parquet(path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(_ROWS), path, compression="zstd")


def _plain_parquet(path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(_ROWS), path, compression="none", use_dictionary=False)


def _arrow(path: Path) -> None:
    """A data set as `datasets` saves it."""
    import pyarrow as pa

    (path.parent / "state.json").write_text(json.dumps({"_data_files": [{"filename": path.name}]}))

    table = pa.Table.from_pylist(_ROWS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


def _xlsx(path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["id", "document", "summary"])
    for row in _ROWS[:12]:
        book.active.append([row["id"], row["document"], row["summary"]])
    book.save(path)


# How often each kind is tried in full: readers of text are fast, and those in a process of their own are not.
KINDS: dict[str, tuple[str, Callable[[Path], None], int]] = {
    "jsonl": ("jsonl", _jsonl, 15_000),
    "json": ("json", _json, 10_000),
    "csv": ("csv", _csv, 15_000),
    "parquet": ("parquet", _parquet, 3_000),
    "plain parquet": ("parquet", _plain_parquet, 3_000),
    "arrow": ("arrow", _arrow, 3_000),
    "xlsx": ("xlsx", _xlsx, 1_000),
}


def changed(data: bytes, draw: random.Random) -> bytes:
    """The data with some bits flipped, numbers exchanged for extreme ones, or pieces cut out."""
    new = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8, 40))):
        at, kind = draw.randrange(len(new)), draw.random()
        if kind < 0.6:
            new[at] ^= 1 << draw.randrange(8)
        elif kind < 0.8:
            number = struct.pack("<q", draw.choice((-1, 2**31, 2**40, 2**63 - 1, 0, -(2**31))))
            new[at : at + 8] = number[: len(new) - at]
        else:
            del new[at : at + draw.randrange(1, 64)]
            new = new or bytearray(b"\0")
    return bytes(new)


def read_batch(path: Path, whole: bytes, seeds: range) -> tuple[Counter[str], str]:
    """How often changed files were read and refused, in a fork; and the first that ended otherwise."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _read_all(path, whole, seeds, writing)
    os.close(writing)
    with os.fdopen(reading) as stream:
        lines = stream.read().splitlines()
    _, status = os.waitpid(pid, 0)
    bad = next((line for line in lines if line.startswith("bad ")), "")
    if status and not bad:
        bad = f"bad seed {seeds.start + len(lines)}: the process ended with {os.waitstatus_to_exitcode(status)}"
    return Counter(line.split(" ")[0] for line in lines), bad


def _read_all(path: Path, whole: bytes, seeds: range, writing: int) -> None:
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process
        for seed in seeds:
            signal.alarm(_MOST_SECONDS)
            path.write_bytes(changed(whole, random.Random(seed)))
            os.write(writing, f"{_outcome(path)} seed {seed}\n".encode())
        code = 0
    except BaseException:
        shown = " ".join(traceback.format_exc().split())[-600:]
        os.write(writing, f"bad seed {seed}: {shown}\n".encode())
    finally:
        os._exit(code)


def _outcome(path: Path) -> str:
    try:
        load_dataset(DataSpec(source=str(path.parent)) if path.suffix == ".arrow" else DataSpec(train_file=str(path)))
    except UserError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    return "read"


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_read_or_refused(
    kind: str, full: bool, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    ending, write, most = KINDS[kind]
    path = tmp_path / "data" / f"data.{ending}"
    path.parent.mkdir()
    write(path)
    whole = path.read_bytes()
    assert _outcome(path) == "read"  # also imports what is imported late
    trials, outcomes = most if full else 12, Counter[str]()
    for start in range(0, trials, _BATCH):
        found, bad = read_batch(path, whole, range(seed + start, seed + min(trials, start + _BATCH)))
        assert not bad, f"{kind}, {bad}"
        outcomes += found
        print(kind, dict(outcomes), flush=True)
    assert outcomes["read"] + outcomes["refused"] == trials, outcomes
