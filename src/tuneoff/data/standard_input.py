"""Keeps the rows of standard input as a file, so that every run of a study can read them."""

import hashlib
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tuneoff.data.byte_source import file_source
from tuneoff.data.file_kinds import PARQUET, ZIP, is_workbook, refuse_foreign
from tuneoff.errors import UserError

_BYTE_ORDER_MARKS_AND_NULS = b"\xef\xbb\xbf\xff\xfe\x00"


def store_standard_input(stream: BinaryIO, flag: str, folder: Path) -> Path:
    """Copy a stream into `folder` and return the file, whose name has a hash of its content and a suffix that fits it.

    `flag` is for messages. Raises `UserError` if the stream is a terminal or empty, or the folder cannot be written.
    """
    if stream.isatty():
        raise UserError(
            f"{flag} -: reads rows from standard input, which is the terminal; write `cat FILE | tuneoff compare "
            f"{flag} -`, or name the file: {flag} FILE"
        )
    temporary = folder / f".stdin-{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # rows are somebody's texts
        with temporary.open("xb") as out:
            shutil.copyfileobj(stream, out)
        if temporary.stat().st_size == 0:
            raise UserError(f"{flag} -: standard input is empty; check the command before the pipe")
        with temporary.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        path = folder / f"stdin-{digest[:16]}{_suffix(temporary)}"
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"{flag} -: the rows cannot be kept in {folder} ({error.strerror}); set TUNEOFF_CACHE to another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return path


def _suffix(path: Path) -> str:
    """The suffix by which a reader is chosen. Compression is recognised by the first bytes and needs none."""
    start = file_source(path).start
    refuse_foreign("standard input", start)
    if start.startswith(PARQUET):
        return ".parquet"
    if start.startswith(ZIP):
        return ".xlsx" if is_workbook(start) else ".zip"
    return ".jsonl" if start.lstrip(_BYTE_ORDER_MARKS_AND_NULS + b" \t\r\n").startswith((b"{", b"[")) else ".csv"
