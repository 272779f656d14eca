"""What safetensors raises while it writes has no error number: here it becomes an `OSError`, as for any other file."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def saving(place: Path, size: int | None = None) -> Iterator[None]:
    """Raise `OSError` that names `place` for an error of safetensors, such as a full disk. `size`: bytes to write."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        number = int(code[1]) if code else errno.EIO
        why = os.strerror(number) if code else str(error)
        more = "" if size is None else f"; {size:,} bytes were to be written"
        raise OSError(number, f"{why}{more}", str(place)) from error
