"""Reads an Arrow table once in a process of its own, before this process does.

The Arrow library trusts the numbers in a file: a damaged one can end the process that reads it, or take all memory.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tuneoff.confined import LimitReached, ProcessLimits, call_confined
from tuneoff.data.bombs import check_ratio
from tuneoff.errors import UserError

_LEAST_MEMORY_BYTES, _LEAST_CPU_SECONDS = 4 * 10**9, 30
_SLOWEST_BYTES_PER_SECOND = 5_000_000  # of the file; zstd takes a hundredth of the time


def check_tables(name: str, size: int, batches: Callable[[], Iterable[Any]], convert: Callable[[Any], object]) -> None:
    """Raise `UserError` if the record batches of a file of `size` bytes are damaged, or unpack to far too much.

    `batches` reads the file, and `convert` does to each batch what the reader will do.
    """
    import pyarrow as pa
    from pyarrow import compute  # noqa: F401 - imported once, not in each process

    def check() -> bytes:
        pa.set_memory_pool(pa.system_memory_pool())  # reserves no address space, which is limited
        unpacked = 0
        for batch in batches():
            check_batch(batch)
            unpacked += unpacked_bytes(batch)
            check_ratio(name, size, unpacked)
            convert(batch)
        return b""

    seconds = _LEAST_CPU_SECONDS + size // _SLOWEST_BYTES_PER_SECOND
    limits = ProcessLimits(max(_LEAST_MEMORY_BYTES, 4 * size), seconds, 300 + 10 * seconds, 10_000)
    try:
        call_confined(check, limits)
    except LimitReached as error:
        raise UserError(f"{name}: damaged, or not a table of texts: it {error}; write it again") from error


def check_batch(batch: Any) -> None:
    """Raise `ArrowInvalid` unless every offset and index of a record batch is inside its buffers."""
    import pyarrow as pa

    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        for column in batch.columns:
            _check_column(column)


def _check_column(column: Any) -> None:
    """As `validate`, but texts may hold bytes that are not UTF-8: their rows report them."""
    import pyarrow as pa
    from pyarrow import compute, types

    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        column.view(_bytes_of(kind)).validate(full=True)
    elif types.is_dictionary(kind) and not types.is_nested(kind.value_type):
        _check_column(column.dictionary)
        indices = compute.min_max(column.indices).as_py()
        if indices["min"] is not None and not 0 <= indices["min"] <= indices["max"] < len(column.dictionary):
            raise pa.ArrowInvalid("an index beyond the dictionary")
    elif types.is_list(kind) or types.is_large_list(kind):
        without_texts = type(column).from_arrays(column.offsets, pa.nulls(len(column.values)))
        without_texts.validate(full=True)
        _check_column(column.values)
    else:
        column.validate(full=True)


def _bytes_of(kind: Any) -> Any:
    import pyarrow as pa
    from pyarrow import types

    if types.is_string(kind):
        return pa.binary()
    return pa.large_binary() if types.is_large_string(kind) else pa.binary_view()


def unpacked_bytes(batch: Any) -> int:
    """About the size of a batch as Python objects. A text of a dictionary counts once for each row that has it."""
    return sum(_unpacked(column) for column in batch.columns)


def _unpacked(column: Any) -> int:
    from pyarrow import compute, types

    kind = column.type
    if types.is_dictionary(kind) and _is_text(kind.value_type):
        lengths = compute.binary_length(column.dictionary)
        return int(compute.sum(lengths.take(column.indices)).as_py() or 0)
    if types.is_string_view(kind):
        views = np.frombuffer(column.buffers()[1], np.int32).reshape(-1, 4)  # a length, then what is not needed here
        return int(views[column.offset : column.offset + len(column), 0].sum(dtype=np.int64))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return 8 * len(column) + _unpacked(column.flatten())
    return int(column.nbytes) + 8 * len(column)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind))
