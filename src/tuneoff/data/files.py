"""Opens a data file: JSON, CSV, TSV, Parquet or Excel, plain or compressed.

A damaged row becomes an `UnreadableRow`. A file whose content does not match its extension is a `UserError`.
"""

import difflib
import glob
from collections.abc import Callable, Iterator
from pathlib import Path

from tuneoff.data.arrow import parquet_rows
from tuneoff.data.byte_source import ByteSource, data_suffix, file_source, zip_sources
from tuneoff.data.chats import with_chat_columns
from tuneoff.data.csv_rows import open_csv
from tuneoff.data.encoding import text_encoding
from tuneoff.data.excel import open_excel
from tuneoff.data.file_kinds import PARQUET, ZIP, refuse_foreign
from tuneoff.data.json_rows import open_json
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError

RowIterator = Iterator[SourceRow | UnreadableRow]

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
CSV_SEPARATORS = {".csv": None, ".tsv": "\t"}
_PAIRS = ((".source", ".target"), (".src", ".tgt"))  # documents and summaries of one split, line by line
_PAIRED = {suffix: pair for pair in _PAIRS for suffix in pair}
READERS = (*JSON_SUFFIXES, *CSV_SEPARATORS, ".parquet", ".xlsx")


def has_data_suffix(name: str) -> bool:
    """Whether a file's name ends like that of a data file: `a.jsonl`, `a.csv.gz`."""
    return data_suffix(name) in READERS


def expanded(name: str) -> list[str]:
    """The files that match a pattern such as `data/*.jsonl`, in alphabetical order, or the one file itself.

    Raises `UserError` if no file matches, and for a pattern that cannot be read.
    """
    if not glob.has_magic(name) or local_path(name).exists():
        return [name]
    path = local_path(name)
    try:
        found = sorted(str(match) for match in Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    except ValueError as error:  # `**` together with other characters
        way_out = f"write {name.replace('**', '**/*', 1)}" if "**/" not in name else "check it"
        raise UserError(f"{name}: not a pattern that can be read ({error}); {way_out}") from error
    if not found:
        raise UserError(f"{name}: no file matches this pattern; check the path")
    return found


def open_file(name: str, encoding: str | None = None) -> SourceTable:
    """Open a data file; the extension decides how. `encoding` is that of text files; None finds it.

    Raises `UserError` for a file that is missing, empty, a folder, not readable or of an unknown extension. Reading the
    rows raises it for a file whose content does not match its extension.
    """
    path = local_path(name)
    if path.is_dir():
        with_splits = f", or, to read a file for each split, write --data {path}" if any(path.glob("train*")) else ""
        raise UserError(f"{path}: a folder, but a data file was expected; name one of the files in it{with_splits}")
    if not path.exists():
        raise no_such_file(path)
    source = file_source(path)
    start = source.start
    refuse_foreign(source.name, start)
    if start.startswith(ZIP) and source.suffix != ".xlsx":
        source = _only_member(path)
    return open_source(source, encoding)


def open_source(source: ByteSource, encoding: str | None = None, suffix: str | None = None) -> SourceTable:
    """Open the bytes of a data file. `suffix` is for one whose name does not say what it is.

    Raises `UserError` as `open_file` does.
    """
    suffix = suffix or source.suffix
    if suffix not in READERS:
        refused = f"{source.name}: the extension {suffix!r} is not supported"
        raise UserError(f"{refused}; {_other_way(source) or 'use one of ' + ', '.join(READERS)}")
    start = source.start
    if not start:
        raise UserError(f"{source.name}: the file is empty; give a file with at least one row")
    refuse_foreign(source.name, start)
    files = (source.path,)
    if suffix == ".parquet" or start.startswith(PARQUET):
        return SourceTable(source.name, "row", parquet_rows(source), files)
    if suffix == ".xlsx":
        rows, cautions = open_excel(source)
        return SourceTable(source.name, "row", map(with_chat_columns, rows), files, cautions)
    if start.startswith(ZIP):
        raise UserError(f"{source.name}: a zip archive in an archive; unpack it first")
    found = text_encoding(source, encoding)
    guessed = () if found.caution is None else (found.caution,)
    if suffix in JSON_SUFFIXES:
        unit, opened = open_json(source, found.name)
        return SourceTable(source.name, unit, _read(opened), files, guessed)
    opened, cautions = open_csv(source, found.name, CSV_SEPARATORS[suffix])
    return SourceTable(source.name, "line", _read(opened), files, (*guessed, *cautions))


def _other_way(source: ByteSource) -> str | None:
    """What to do with a file of another extension whose content is plain to see; None if it is not."""
    if source.suffix in _PAIRED:
        pair = " ".join(source.path.stem + suffix for suffix in _PAIRED[source.suffix])
        return (
            f"join the two files line by line: (printf 'document\\tsummary\\n'; paste {pair}) > {source.path.stem}.tsv"
        )
    if source.start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"[")):
        return f"its content looks like JSON, so rename it to {source.path.stem}.json"
    return None


def _read(opened: Callable[[], RowIterator]) -> RowIterator:
    yield from map(with_chat_columns, opened())


def _only_member(path: Path) -> ByteSource:
    """The one data file in a zip archive. Raises `UserError` if there is another number of them."""
    found = [source for source in zip_sources(path) if has_data_suffix(source.name)]
    if len(found) != 1:
        raise UserError(
            f"{path}: a zip archive with {len(found)} data files in it; give it with --data if it has a file for each "
            "split, or unpack it and name its files"
        )
    return found[0]


def local_path(name: str) -> Path:
    """The path with `~` expanded. Raises `UserError` for an impossible path or one that may not be looked up."""
    if "\0" in name:  # `exists` returns False for it, `resolve` raises
        raise UserError(f"{name[:200]!r}: a path cannot hold a NUL character; correct it")
    try:
        path = Path(name).expanduser()
        path.exists()
    except (RuntimeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{name[:200]}: this path cannot be looked up ({reason}); check it") from error
    return path


def no_such_file(path: Path) -> UserError:
    """The error for a missing data file. It suggests a file of a similar name in the same folder."""
    missing = f"{path}: there is no such file"
    try:
        siblings = {other.stem: other.name for other in path.parent.iterdir() if other.suffix.lower() in READERS}
    except OSError:
        return UserError(f"{missing}, and the folder {str(path.parent)!r} cannot be listed; check the path")
    close = difflib.get_close_matches(path.stem, siblings, n=1)
    return UserError(f"{missing}; did you mean {siblings[close[0]]!r}?" if close else f"{missing}; check the path")
