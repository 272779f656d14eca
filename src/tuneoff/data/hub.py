"""Data sets of the Hugging Face hub, read through the package `datasets` (extra `hub`)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneoff.data.arrow import ROWS_PER_BATCH, batch_rows
from tuneoff.data.source_table import SourceTable
from tuneoff.errors import UserError

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
# The configuration used for a data set that has several, if none was named.
DEFAULT_CONFIG = {"abisee/cnn_dailymail": "3.0.0"}


def open_hub(
    name: str, config: str | None = None, revision: str | None = None, nested: bool = False
) -> dict[str, SourceTable]:
    """Load a data set of the hub. Returns split name -> table.

    `datasets` has its own cache and opens no connection with HF_HUB_OFFLINE=1. `nested` keeps nested columns. Raises
    `UserError` if `datasets` is not installed, the hub cannot be reached, or the name or configuration is wrong.
    """
    try:
        import datasets
    except ImportError as error:
        message = (
            f"reading {name!r} from the Hugging Face hub needs the package datasets; run `pip install datasets`, "
            "or give local files with --train-file"
        )
        raise UserError(message) from error
    try:
        loaded = datasets.load_dataset(name, config or DEFAULT_CONFIG.get(name), revision=revision)
    except ConnectionError as error:
        message = (
            f"the data set {name!r} is not in the local cache and the Hugging Face hub cannot be reached "
            "(no network, or HF_HUB_OFFLINE is set); connect once, or give local files with --train-file"
        )
        raise UserError(message) from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the data set {name!r} cannot be loaded from the Hugging Face hub: {reason}") from error
    return {str(split): _split_table(f"{name} {split}", rows, nested) for split, rows in loaded.items()}


def _split_table(name: str, split: Any, nested: bool) -> SourceTable:
    def batches() -> Iterator[Any]:
        yield from split.with_format("arrow").iter(batch_size=ROWS_PER_BATCH)

    files = tuple(Path(file["filename"]) for file in split.cache_files)
    return SourceTable(name, "row", batch_rows(name, batches(), nested), files)
