"""JSON and JSON Lines files that tuneoff writes: atomic, synced to the disk, without NaN."""

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tuneoff.errors import UserError
from tuneoff.regular_files import open_regular, read_limited

Model = TypeVar("Model", bound=BaseModel)


# Temporary files begin with it, which distinguishes what a killed process left from files of the user.
TEMPORARY_PREFIX = ".tuneoff-"
_MOST_BYTES = 2 * 10**9  # of one JSON file of a study, which is in memory as a whole


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
        raise OSError(error.errno, error.strerror, str(path)) from error
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
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


def write_json(path: Path, value: BaseModel | dict[str, Any]) -> None:
    """Write `value` as indented JSON, atomically."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    write_text_atomic(path, json.dumps(finite_or_none(plain), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[BaseModel]) -> None:
    """Write one JSON object per line, atomically."""
    plain = (finite_or_none(row.model_dump(mode="json")) for row in rows)
    write_text_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain))


def read_json(path: Path, model: type[Model], way_out: str) -> Model | None:
    """The file as a `model`; None without a file. Raises `UserError`, which ends in `way_out`, for a damaged file."""
    try:
        return model.model_validate_json(read_limited(path, _MOST_BYTES))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: damaged or written by another version of tuneoff; {way_out}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {way_out}") from error


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


def read_jsonl(path: Path, model: type[Model]) -> list[Model]:
    """The lines of a JSON Lines file as `model`s; empty without a file. Raises `UserError` for a damaged file."""
    try:
        with contextlib.suppress(ValidationError), open_regular(path) as stream:
            return [model.model_validate_json(line) for line in stream if line.strip()]
        with open_regular(path) as stream:  # again, slower, to say what is wrong and where
            return [model.model_validate(row) for row in _objects(path, stream)]
    except FileNotFoundError:
        return []
    except ValidationError as error:
        message = f"{path}: damaged or written by another version of tuneoff; restore it or run the study again"
        raise UserError(message) from error
