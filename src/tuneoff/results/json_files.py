"""JSON and JSON Lines files that tuneoff writes: atomic, synced to the disk, without NaN."""

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tuneoff.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


class LaterVersion(UserError):
    """A file with keys that this version does not know: it is not damaged, and nothing in its folder is changed."""


# Temporary files begin with it, which distinguishes what a killed process left from files of the user.
TEMPORARY_PREFIX = ".tuneoff-"
# What a stranger's file may take: a list of empty lists needs fifty times the memory of its text, a row a kilobyte. The
# first is that of one object: a file of one, or a line of many.
MOST_OBJECT_BYTES = 16_000_000
_MOST_ROWS = 2_000_000
_FULL = {errno.ENOSPC, errno.EDQUOT}


def write_text_atomic(path: Path, text: str) -> None:
    """Write a temporary file next to `path`, sync it, then rename it: a reader sees the old file or the new one.

    A link at `path` is replaced; the file that it points to is not changed. Raises `OSError` that names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        # Not mkstemp: a file that is made with mode 0o666 gets the permissions of the user's umask.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        why = _full_disk(path.parent, len(text.encode())) if error.errno in _FULL else error.strerror
        raise OSError(error.errno, why, str(path)) from error
    sync_folder(path.parent)


def _full_disk(folder: Path, needed: int) -> str:
    """What does not fit on a full disk, or into a quota."""
    try:
        free = f"{shutil.disk_usage(folder).free:,} bytes are free"
    except OSError:
        free = "it is not known how many are free"
    return f"the disk is full: {needed:,} bytes are needed and {free}; free some space, then run the same command again"


def new_file_mode(folder: Path) -> int:
    """Permissions of a new file in `folder`. The umask cannot be read without being changed, for every thread."""
    probe = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return os.fstat(handle).st_mode & 0o777
    finally:
        os.close(handle)
        probe.unlink()


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power failure, where the system can do that."""
    with contextlib.suppress(OSError):  # Windows opens no folder; some network file systems sync none
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_temporary_files(folders: Iterable[Path]) -> None:
    """Remove what killed processes left in these folders. Only for the process that holds the study's lock."""
    for folder in folders:
        for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
            with contextlib.suppress(OSError):
                path.unlink()


def finite_or_none(value: Any) -> Any:
    """`value` with NaN and infinities replaced by None, which JSON can express."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    return value


def json_text(value: BaseModel | dict[str, Any]) -> str:
    """`value` as indented JSON."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(finite_or_none(plain), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def jsonl_text(rows: Iterable[BaseModel]) -> str:
    """One JSON object per line."""
    plain = (finite_or_none(row.model_dump(mode="json")) for row in rows)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain)


def parse_json(data: bytes, path: Path, model: type[Model], way_out: str) -> Model:
    """The content of the file `path` as a `model`.

    Raises `UserError`, which ends in `way_out`: a `LaterVersion` if there are keys that this version does not know.
    """
    if len(data) > MOST_OBJECT_BYTES:
        raise UserError(f"{path}: {len(data) / 1e6:,.0f} MB, which no such file of tuneoff has; {way_out}")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        unknown = [found for found in error.errors() if found["type"] == "extra_forbidden"]
        if unknown and len(unknown) == error.error_count():
            key = ".".join(str(part) for part in unknown[0]["loc"])
            raise LaterVersion(
                f"{path}: written by a later version of tuneoff (it has the key {key!r}) and left as it is; use that "
                "version, or choose another --output"
            ) from error
        raise UserError(f"{path}: damaged or written by another version of tuneoff; {way_out}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: damaged or written by another version of tuneoff; {way_out}") from error


def _objects(path: Path, stream: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(stream, 1):  # decoded line by line, so that invalid UTF-8 has a line number too
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            why = getattr(error, "msg", None) or getattr(error, "reason", None) or "nested too deeply"
            raise UserError(f"{path}, line {number}: not JSON ({why}); restore the file or run again") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not a JSON object; restore the file or run again")
        yield row


def _lines(data: bytes, path: Path) -> Iterator[bytes]:
    """The lines of a file. Raises `UserError` for one that is too long to be copied, such as a hole."""
    start = number = 0
    while start < len(data):
        number += 1
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        if end - start > MOST_OBJECT_BYTES:
            raise UserError(
                f"{path}, line {number}: {(end - start) / 1e6:,.0f} MB, which no line of such a file has; restore the "
                "file or run again"
            )
        yield data[start:end]
        start = end + 1


def parse_jsonl(data: bytes, path: Path, model: type[Model]) -> list[Model]:
    """The lines of the JSON Lines file `path` as `model`s. Raises `UserError` for a damaged file."""
    if (count := data.count(b"\n")) > _MOST_ROWS:
        raise UserError(
            f"{path}: {count:,} rows, and at most {_MOST_ROWS:,} are read; restore it or run the study again"
        )
    try:
        with contextlib.suppress(ValidationError):
            return [model.model_validate_json(line) for line in _lines(data, path) if line.strip()]
        # again, slower, to say what is wrong and where
        return [model.model_validate(row) for row in _objects(path, _lines(data, path))]
    except ValidationError as error:
        message = f"{path}: damaged or written by another version of tuneoff; restore it or run the study again"
        raise UserError(message) from error


def check_unique(rows: Iterable[Any], path: Path) -> None:
    """Raise `UserError` if two rows of the file `path` have one `id`: one of the two would count without a word."""
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise UserError(
                f"{path}: the document {row.id[:60]!r} is in it twice; restore the file or run the study again"
            )
        seen.add(row.id)
