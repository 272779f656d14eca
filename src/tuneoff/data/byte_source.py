"""The bytes of a data file: plain, compressed, or a member of a zip archive."""

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

from tuneoff.data.bombs import LARGEST_RATIO, BoundedReader
from tuneoff.data.zstd import open_zstd, open_zstd_stream
from tuneoff.errors import UserError
from tuneoff.regular_files import check_filled, open_regular

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
_START_BYTES = 4096
_BUFFER_BYTES = 1 << 17
_ZIP_ZSTD = 93  # the number of the method in zip archives
# The header of a member: its signature, and the lengths of its name and of an extra field.
_ZIP_HEADER = struct.Struct("<26xHH")


@dataclass(frozen=True)
class ByteSource:
    """A data file that can be opened several times. `name` is for messages; `path` is the file on disk."""

    name: str
    path: Path
    open: Callable[[], IO[bytes]]

    @property
    def suffix(self) -> str:
        """The extension in lower case; of a compressed file, the one before that of the compression."""
        return data_suffix(self.name)

    @property
    def start(self) -> bytes:
        """The first bytes. Raises `UserError` if the file cannot be read."""
        with reading(self.name), self.open() as stream:
            return stream.read(_START_BYTES)

    @contextmanager
    def text(self, encoding: str, newline: str | None) -> Iterator[io.TextIOWrapper]:
        """Open as text. Bytes that `encoding` does not have become lone surrogates."""
        with (
            reading(self.name),
            self.open() as stream,
            io.TextIOWrapper(stream, encoding, errors="surrogateescape", newline=newline) as text,
        ):
            yield text


def data_suffix(name: str) -> str:
    """`.jsonl` for `a.jsonl` and for `A.JSONL.gz`."""
    path = PurePath(name.lower())
    return PurePath(path.stem).suffix if path.suffix in COMPRESSED_SUFFIXES else path.suffix


def file_source(path: Path) -> ByteSource:
    """A file on disk, decompressed if its first bytes say that it is compressed. Raises `UserError` for a pipe."""
    with reading(str(path)), open_regular(path) as stream:
        start = stream.read(6)
    return ByteSource(str(path), path, _opener(path, start))


def zip_sources(path: Path) -> list[ByteSource]:
    """The files in a zip archive without hidden ones. Raises `UserError` for a damaged or encrypted archive."""
    with reading(str(path)), open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
        members = [one for one in archive.infolist() if not one.is_dir() and not is_hidden(PurePosixPath(one.filename))]
    if any(member.flag_bits & 1 for member in members):
        raise UserError(f"{path}: the archive is encrypted; unpack it and name the files in it")
    return [ByteSource(f"{path}/{member.filename}", path, _member_opener(path, member.filename)) for member in members]


def is_hidden(path: PurePath) -> bool:
    """Whether a file, named relative to its folder or archive, is hidden or one that macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _member_opener(path: Path, member: str) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        name = f"{path}/{member}"
        with zipfile.ZipFile(path) as archive:  # the member keeps the file open
            info = archive.getinfo(member)
            if info.compress_type == _ZIP_ZSTD and not hasattr(zipfile, "ZIP_ZSTANDARD"):  # Python 3.14 has it
                return _bounded(open_zstd_stream(name, lambda: _packed_bytes(path, info)), name, info.compress_size)
            return _bounded(archive.open(member), name, info.compress_size)

    return opened


def _packed_bytes(path: Path, info: zipfile.ZipInfo) -> IO[bytes]:
    """The bytes of a member as they are in the archive."""
    with open_regular(path) as stream:
        stream.seek(info.header_offset)
        header = stream.read(_ZIP_HEADER.size)
        if len(header) < _ZIP_HEADER.size or not header.startswith(b"PK\3\4"):
            raise zipfile.BadZipFile("no header where a member begins")
        name_length, extra_length = _ZIP_HEADER.unpack(header)
        stream.seek(name_length + extra_length, io.SEEK_CUR)
        return io.BytesIO(stream.read(info.compress_size))


def _opener(path: Path, start: bytes) -> Callable[[], IO[bytes]]:
    unpack = _unpacker(path, start)
    if unpack is None:
        return lambda: _plain(path)

    def opened() -> IO[bytes]:
        return _bounded(unpack(), str(path), path.stat().st_size)

    return opened


def _unpacker(path: Path, start: bytes) -> Callable[[], IO[bytes]] | None:
    if start.startswith(b"\x1f\x8b"):
        return lambda: io.BufferedReader(gzip.GzipFile(path))
    if start.startswith(b"BZh"):
        return lambda: io.BufferedReader(bz2.BZ2File(path))
    if start.startswith(b"\xfd7zXZ\0"):
        return lambda: io.BufferedReader(lzma.LZMAFile(path))
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return lambda: open_zstd(path)
    return None


def _plain(path: Path) -> IO[bytes]:
    stream = open_regular(path)
    try:
        check_filled(str(path), stream.fileno(), LARGEST_RATIO)
    except UserError:
        stream.close()
        raise
    return stream


def _bounded(stream: IO[bytes], name: str, packed_bytes: int) -> IO[bytes]:
    return io.BufferedReader(BoundedReader(stream, name, packed_bytes), _BUFFER_BYTES)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what a damaged or unreadable file raises into a `UserError`."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not text in {error.encoding}; give another --encoding") from error
    except UnicodeError as error:  # a codec that is not for files, or a mark that is missing
        raise UserError(f"{name}: not text in that encoding ({error}); give another --encoding") from error
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise UserError(f"{name}: the compressed file is damaged or incomplete; write or download it again") from error
    except (OSError, NotImplementedError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{name}: cannot be read ({reason}); check the file and its permissions") from error
