"""Reads zstd through the package `zstandard`, in files and in zip archives.

Its own reader ends without an error where a file is cut off.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tuneoff.errors import UserError

_READ_BYTES = 1 << 11  # compressed; a byte can unpack to 30,000


def open_zstd(path: Path) -> IO[bytes]:
    """Open all frames of a compressed file, one after another. Raises `UserError` if `zstandard` is not installed.

    Reading raises `EOFError` if the file is damaged or incomplete.
    """
    return open_zstd_stream(str(path), lambda: path.open("rb"))


def open_zstd_stream(name: str, opened: Callable[[], IO[bytes]]) -> IO[bytes]:
    """As `open_zstd`, for a stream that `opened` opens; `name` is for messages."""
    return io.BufferedReader(_Frames(name, opened))


class _Frames(io.RawIOBase):
    def __init__(self, name: str, opened: Callable[[], IO[bytes]]) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise UserError(
                f"{name}: reading zstd (.zst, .eval) needs the package zstandard; run `pip install zstandard`"
            ) from error
        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._fault = zstandard.ZstdError
        self._stream = opened()
        self._frame = self._new_frame()
        self._is_inside = False  # a frame
        self._decompressed = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._decompressed:
            compressed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame, self._is_inside = self._new_frame(), False
            compressed = compressed or self._stream.read(_READ_BYTES)
            if not compressed:
                if self._is_inside:
                    raise EOFError("the last frame is cut off")
                return 0
            self._is_inside = True
            try:
                self._decompressed = memoryview(self._frame.decompress(compressed))
            except self._fault as error:
                raise EOFError(str(error)) from error
        count = min(len(buffer), len(self._decompressed))
        buffer[:count] = self._decompressed[:count]
        self._decompressed = self._decompressed[count:]
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()
