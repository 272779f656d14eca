"""Readers of Arrow tables: Parquet files and folders written by `datasets` (`save_to_disk`)."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tuneoff.data.arrow_check import check_tables, unpacked_bytes
from tuneoff.data.byte_source import ByteSource
from tuneoff.data.chats import COLUMNS_OF_CHATS, with_chat_columns
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError
from tuneoff.regular_files import check_regular, open_regular, read_limited

ROWS_PER_BATCH = 1024  # rows become Python objects a batch at a time: few enough for documents of some kilobytes
_BATCH_BYTES = 64_000_000  # longer documents are read in smaller batches
_MOST_JSON_BYTES = 16_000_000  # of the files that describe a saved folder


def parquet_rows(source: ByteSource) -> Iterator[SourceRow | UnreadableRow]:
    """Read a Parquet file batch by batch. Raises `UserError` if it is not a Parquet file or is damaged."""

    _require_pyarrow(source.name)
    damage = partial(_damage, f"{source.name}: not a Parquet file, or a damaged one", "write")

    def batches(threads: bool = False) -> Iterator[Any]:
        from pyarrow import parquet

        with damage(), source.open() as stream, parquet.ParquetFile(stream) as file:
            yield from file.iter_batches(batch_size=_rows_at_once(file), use_threads=threads)

    check_tables(source.name, source.path.stat().st_size, batches, _plain_columns)
    with damage():
        yield from batch_rows(source.name, batches(threads=True))


def _require_pyarrow(name: str) -> None:
    if find_spec("pyarrow") is None:
        raise UserError(f"{name}: reading Parquet and Arrow needs pyarrow; run pip install 'tuneoff[formats]'")


@contextmanager
def _damage(what: str, do: str) -> Iterator[None]:
    """Turn what the Arrow library raises into a `UserError`."""
    import pyarrow as pa

    try:
        yield
    except MemoryError:  # also Arrow's own
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{what} ({reason}); {do} it again") from error


def _rows_at_once(file: Any) -> int:
    """Fewer rows where the file says that they are long."""
    groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
    rows_and_bytes = [(group.num_rows, group.total_byte_size) for group in groups]
    average = max((size // max(rows, 1) for rows, size in rows_and_bytes), default=0)
    return max(1, min(ROWS_PER_BATCH, _BATCH_BYTES // max(average, 1)))


def batch_rows(name: str, batches: Iterable[Any], nested: bool = False) -> Iterator[SourceRow | UnreadableRow]:
    """Yield the rows of Arrow record batches or tables.

    Columns of texts, lists of texts, chats, numbers and times are kept; with `nested`, all columns are. Raises
    `UserError` if two columns have the same name, or if no column is kept.
    """
    number = 0
    for batch in _parts(batches):
        names = batch.schema.names
        repeated = next((column for index, column in enumerate(names) if column in names[:index]), None)
        if repeated is not None:
            raise UserError(f"{name}: the column {repeated!r} appears twice; rename one of them")
        plain = batch if nested else _plain_columns(batch)
        if names and not plain.num_columns:
            listed = ", ".join(map(repr, names[:8]))
            raise UserError(
                f"{name}: no column holds texts or numbers, only nested or binary values ({listed}); add some"
            )
        try:
            values = plain.to_pylist()
        except UnicodeDecodeError:
            values = [_decode_row(plain, index) for index in range(plain.num_rows)]
        for row in values:
            number += 1
            yield with_chat_columns(UnreadableRow(number, "not UTF-8") if row is None else SourceRow(number, row))


def _parts(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches, cut so that the Python objects of a part fit easily in memory."""
    every = (part for one in batches for part in (one.to_batches() if hasattr(one, "to_batches") else (one,)))
    for batch in every:
        rows = max(1, min(ROWS_PER_BATCH, batch.num_rows * _BATCH_BYTES // max(unpacked_bytes(batch), 1)))
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _decode_row(batch: Any, index: int) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = batch.slice(index, 1).to_pylist()[0]
    except UnicodeDecodeError:
        return None
    return row


def _plain_columns(batch: Any) -> Any:
    """The batch without vectors, images and other nested or binary columns.

    Times and decimals become texts, because Python has no object for a nanosecond.
    """
    import pyarrow as pa
    from pyarrow import types

    def is_string(kind: Any) -> bool:
        if types.is_dictionary(kind):
            kind = kind.value_type
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))

    names, columns = [], []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = column.type
        if types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind) or types.is_decimal(kind):
            column = column.cast(pa.string())
        elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            if not is_string(kind.value_type) and not (name in COLUMNS_OF_CHATS and types.is_struct(kind.value_type)):
                continue
        elif types.is_duration(kind) or not (is_string(kind) or types.is_primitive(kind) or types.is_null(kind)):
            continue
        names.append(name)
        columns.append(column)
    return pa.table(columns, names=names)


def is_saved_folder(folder: Path) -> bool:
    """Whether `save_to_disk` of `datasets` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def open_saved_folder(folder: Path) -> dict[str, SourceTable]:
    """Open a folder written by `save_to_disk`. Returns split name -> table; without splits, all rows are `train`.

    Raises `UserError` for a folder of another kind or an incomplete one.
    """
    _require_pyarrow(str(folder))
    if (folder / "dataset_dict.json").is_file():
        splits = _read_json(folder / "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or not all(isinstance(name, str) for name in splits):
            raise UserError(f"{folder / 'dataset_dict.json'}: does not list the splits; save the data set again")
        # The names come from a file that may be malicious: only folders directly inside are read.
        return {name: _saved_split(folder / Path(name).name) for name in splits}
    return {"train": _saved_split(folder)}


def _saved_split(folder: Path) -> SourceTable:
    files = _read_json(folder / "state.json").get("_data_files")
    if not isinstance(files, list) or not all(isinstance(file, dict) and "filename" in file for file in files):
        raise UserError(f"{folder / 'state.json'}: does not list the data files; save the data set again")
    paths = [folder / Path(str(file["filename"])).name for file in files]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise UserError(f"{missing}: missing from the saved data set; save it again")
    return SourceTable(str(folder), "row", _checked_rows(str(folder), paths), tuple(paths))


def _checked_rows(name: str, paths: list[Path]) -> Iterator[SourceRow | UnreadableRow]:
    def checked() -> Iterator[Any]:
        for path in paths:
            check_tables(str(path), check_regular(path).st_size, partial(_stream_batches, path), _plain_columns)
            yield from _stream_batches(path)

    with _damage(f"{name}: a damaged data set", "save"):
        yield from batch_rows(name, checked())


def _stream_batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    damage = _damage(f"{path}: not an Arrow file of datasets, or a damaged one", "save")
    # Not mapped into memory: if the file were cut while it is read, the process would be ended.
    with damage, open_regular(path) as source, pa.ipc.open_stream(source) as stream:
        yield from stream


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_limited(path, _MOST_JSON_BYTES))
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: missing, so {path.parent} was not saved by datasets; save the data set again"
        ) from error
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON; save the data set again") from error
    return value if isinstance(value, dict) else {}
