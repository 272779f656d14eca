"""Small JSONL files and the data sets that are loaded from them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneoff.data import Dataset, load_dataset
from tuneoff.spec import DataSpec

SPLITS = ("train", "validation", "test")
Rows = list[dict[str, Any]]


def write_jsonl(folder: Path, name: str, rows: Rows) -> str:
    """Write `name.jsonl` and return its path."""
    path = folder / f"{name}.jsonl"
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return str(path)


def load_rows(folder: Path, rows: Mapping[str, Rows], *required_fields: str, **options: Any) -> Dataset:
    """Load the rows of each split from files in `folder`. `options` are fields of `DataSpec`."""
    files = {f"{split}_file": write_jsonl(folder, split, some) for split, some in rows.items()}
    return load_dataset(DataSpec(**files, **options), required_fields)


def pair(n: int, **more: Any) -> dict[str, Any]:
    """Row number `n`: a document, a summary, and whatever `more` adds or replaces."""
    return {"document": f"document {n}", "summary": f"summary {n}", **more}
