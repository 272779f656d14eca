"""Data sets of the Hugging Face hub, read through the package `datasets` (extra `hub`)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneoff.data.arrow import ROWS_PER_BATCH, batch_rows
from tuneoff.data.table import Table
from tuneoff.errors import UserError

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
# Data sets of several configurations of which one is meant when none is named.
USUAL_CONFIG = {"abisee/cnn_dailymail": "3.0.0"}


def open_hub(
    name: str, config: str | None = None, revision: str | None = None, nested: bool = False
) -> dict[str, Table]:
    """Split name -> table. `datasets` keeps its own cache and, with HF_HUB_OFFLINE=1, opens no connection.
    `nested` keeps nested columns too.

    Raises `UserError` when `datasets` is not installed, the hub is out of reach, or the name or configuration is wrong.
    """
    try:
        import datasets
    except ImportError as error:
        message = (
            f"the data set {name!r} stands on the Hugging Face hub, and reading it needs the package datasets: "
            "`pip install datasets`, or give local files with --train-file"
        )
        raise UserError(message) from error
    try:
        loaded = datasets.load_dataset(name, config or USUAL_CONFIG.get(name), revision=revision)
    except ConnectionError as error:
        message = (
            f"the data set {name!r} is not in the local cache and the Hugging Face hub cannot be reached "
            "(no network, or HF_HUB_OFFLINE is set); connect once, or give local files with --train-file"
        )
        raise UserError(message) from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the data set {name!r} cannot be loaded from the Hugging Face hub: {reason}") from error
    return {str(split): _table(f"{name} {split}", rows, nested) for split, rows in loaded.items()}


def _table(name: str, split: Any, nested: bool) -> Table:
    def batches() -> Iterator[Any]:
        yield from split.with_format("arrow").iter(batch_size=ROWS_PER_BATCH)

    files = tuple(Path(file["filename"]) for file in split.cache_files)
    return Table(name, "row", batch_rows(name, batches(), nested), files)
