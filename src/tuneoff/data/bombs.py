"""Small files that unpack to far more than anybody's texts: refused while they are read, before they fill a disk."""

import io
import os
from typing import IO

from tuneoff.errors import UserError
from tuneoff.regular_files import ALWAYS_READ_BYTES

# Texts shrink to a third or a tenth, and rows that repeat one another to a hundredth. gzip cannot do more than 1,032.
LARGEST_RATIO = 500


class BoundedReader(io.RawIOBase):
    """A stream of unpacked bytes that ends in a `UserError` if there are far more of them than packed ones."""

    def __init__(self, stream: IO[bytes], name: str, packed_bytes: int) -> None:
        self._stream, self._name, self._packed = stream, name, packed_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = self._stream.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        self._at += len(content)
        check_ratio(self._name, self._packed, self._at)
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()


def check_ratio(name: str, packed_bytes: int, unpacked_bytes: int) -> None:
    """Raise `UserError` if so many bytes come of so few that nobody's texts can be in them."""
    if unpacked_bytes > max(ALWAYS_READ_BYTES, LARGEST_RATIO * packed_bytes):
        raise UserError(
            f"{name}: its {packed_bytes:,} bytes unpack to more than {unpacked_bytes / 1e9:.1f} GB, so it holds "
            "no texts; write the file again, or unpack it where you trust it"
        )
