"""Feeds two runs to the wandb tracker, then reads the files of the offline runs back. Prints JSON, one object a run.

A `.wandb` file is a log in LevelDB's format: a 7 byte header, then blocks of 32 KiB that hold pieces of records, each
piece with a checksum (4 bytes), a length (2) and a type (1: whole, 2: first, 3: middle, 4: last).
"""

import base64
import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

from fake_tracked import EVENTS, PREDICTIONS, record, spec

from tuneoff.trackers import open_tracker

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

    told: dict[str, Any] = {"history": [], "summary": {}, "config": {}}
    for raw in raw_records(path.read_bytes()):
        entry = Record()
        entry.ParseFromString(raw)
        kind = entry.WhichOneof("record_type")
        if kind == "run":
            told |= {"name": entry.run.display_name, "group": entry.run.run_group, "host": entry.run.host}
            told["config"] = {item.key: json.loads(item.value_json) for item in entry.run.config.update}
        elif kind == "history":
            row = {(item.key or ".".join(item.nested_key)): value_of(item) for item in entry.history.item}
            told["history"].append(row)
        elif kind == "summary":
            for item in entry.summary.update:
                told["summary"][item.key or ".".join(item.nested_key)] = value_of(item)
        elif kind == "exit":
            told["exit_code"] = entry.exit.exit_code
    return told


def read_whole(path: Path) -> dict[str, Any]:
    """wandb's own process writes the file, and on a busy machine its end comes after `finish` has returned."""
    end = time.monotonic() + 30
    while "exit_code" not in (told := read_back(path)) and time.monotonic() < end:
        time.sleep(0.1)
    return told


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
    for name, status in (("lora-s0", "finished"), ("full-s0", "failed")):
        tracker.start(name, "starter", spec())
        for event in EVENTS:
            tracker.event(event)
        tracker.finish(record(name, status), lambda: [figure], lambda: PREDICTIONS)
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime):
        told = read_whole(path)
        told["tables"] = [json.loads(table.read_text()) for table in path.parent.glob("files/media/table/**/*.json")]
        told["pages"] = [page.read_text() for page in path.parent.glob("files/media/html/**/*.html")]
        print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
