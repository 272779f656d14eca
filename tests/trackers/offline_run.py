"""Feeds two runs to the wandb tracker, then reads the files of the offline runs back.

Prints one JSON object for each run. A `.wandb` file is a log in LevelDB's format: a header of 7 bytes, then blocks of
32 KiB that hold parts of records. Each part has a checksum (4 bytes), a length (2) and a type (1: whole,
2: first, 3: middle, 4: last).
"""

import base64
import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

from fake_tracked import EVENTS, PREDICTIONS, record, spec

from tuneoff.results.run_record import Status
from tuneoff.trackers import Closing, open_tracker

BLOCK = 32768
# one transparent pixel
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def raw_records(data: bytes) -> list[bytes]:
    records, position, parts = [], 7, b""
    while position + 7 <= len(data):
        if BLOCK - position % BLOCK < 7:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            records.append(parts)
            parts = b""
    return records


def read_back(path: Path) -> dict[str, Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    logged: dict[str, Any] = {"history": [], "summary": {}, "config": {}}
    for raw in raw_records(path.read_bytes()):
        entry = Record()
        entry.ParseFromString(raw)
        kind = entry.WhichOneof("record_type")
        if kind == "run":
            logged |= {"name": entry.run.display_name, "group": entry.run.run_group, "host": entry.run.host}
            logged["config"] = {item.key: json.loads(item.value_json) for item in entry.run.config.update}
        elif kind == "history":
            row = {(item.key or ".".join(item.nested_key)): value_of(item) for item in entry.history.item}
            logged["history"].append(row)
        elif kind == "summary":
            for item in entry.summary.update:
                logged["summary"][item.key or ".".join(item.nested_key)] = value_of(item)
        elif kind == "exit":
            logged["exit_code"] = entry.exit.exit_code
    return logged


def read_whole(path: Path) -> dict[str, Any]:
    """wandb's own process writes the file. On a busy machine it may finish after `finish` has returned."""
    end = time.monotonic() + 30
    while "exit_code" not in (logged := read_back(path)) and time.monotonic() < end:
        time.sleep(0.1)
    return logged


def value_of(item: Any) -> Any:
    """Newer releases have a typed value beside the JSON text."""
    if item.value_json:
        return json.loads(item.value_json)
    kind = item.WhichOneof("value") if item.DESCRIPTOR.oneofs_by_name.get("value") else None
    return getattr(item, kind) if kind else None


def main(folder: Path) -> None:
    figure = folder / "loss.png"
    figure.write_bytes(PNG)
    tracker = open_tracker("wandb", folder)
    ends: tuple[tuple[str, Status], ...] = (("lora-s0", "finished"), ("full-s0", "failed"))
    for name, status in ends:
        tracker.start(name, "starter", spec())
        for event in EVENTS:
            tracker.event(event)
        tracker.finish(record(name, status), lambda: [figure], lambda: PREDICTIONS)
    assert isinstance(tracker, Closing)
    assert tracker.closing_words() == (
        f"wandb was offline; to send the runs: wandb sync {folder.resolve() / 'wandb'}/offline-run-*"
    )
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime):
        logged = read_whole(path)
        logged["tables"] = [json.loads(table.read_text()) for table in path.parent.glob("files/media/table/**/*.json")]
        logged["pages"] = [page.read_text() for page in path.parent.glob("files/media/html/**/*.html")]
        print(json.dumps(logged))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
