"""What safetensors raises while it writes has no error number: here it becomes an `OSError`, as for any other file."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def saving(place: Path) -> Iterator[None]:
    """Raise `OSError` that names `place` for an error of safetensors, such as a full disk."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        number = int(code[1]) if code else errno.EIO
        raise OSError(number, os.strerror(number) if code else str(error), str(place)) from error
