"""New documents for `tuneoff summarize`: data files as training reads them, texts, folders of them, standard input.

What is wrong with one row or one file of a folder is kept as a sentence, and the others are read.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneoff.data import Example
from tuneoff.data.columns import DOCUMENT_NAMES, ID_NAME
from tuneoff.data.files import READERS, local_path, open_file
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError
from tuneoff.prompts import field_names
from tuneoff.spec import RunSpec

STANDARD_INPUT = "-"
_JSON_LINES = (".jsonl", ".ndjson")

FOREIGN = (  # first bytes, in lower case
    (b"%pdf", "a PDF"),
    (b"pk\x03\x04", "a Word document or another zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Word document"),
    (b"{\\rtf", "a rich text file"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML file"),
)


@dataclass(frozen=True)
class LeftOut:
    """A row or a file that is left out, and why."""

    reason: str


@dataclass(frozen=True)
class NewDocuments:
    """The documents to write texts for, and what is left out, in the order of the sources."""

    entries: tuple[Example | LeftOut, ...]

    @property
    def documents(self) -> tuple[Example, ...]:
        """Those to write texts for."""
        return tuple(entry for entry in self.entries if isinstance(entry, Example))

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The others."""
        return tuple(entry for entry in self.entries if isinstance(entry, LeftOut))


@dataclass
class _Reading:
    """What was read so far."""

    spec: RunSpec
    given: Mapping[str, str]
    several: bool  # sources: then ids are made of their names
    entries: list[Example | LeftOut] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def read(self, source: str) -> None:
        """Read a source. Raises `UserError` if it cannot be read from the start."""
        table, is_text = _open(source)
        rows = iter(table.rows)
        first = True
        while True:
            try:
                row = next(rows, None)
            except UserError as error:  # a fault behind which the reader cannot go on
                if first:
                    raise
                self.entries.append(LeftOut(f"{error}; nothing is read from there on"))
                return
            if row is None:
                break
            first = False
            where = table.name if is_text else table.location(row.number)
            try:
                self._add(where, row, identity=where if self.several else str(row.number))
            except UserError as error:
                self.entries.append(LeftOut(str(error)))
        if first:
            raise _nothing_in(table.name)

    def _add(self, where: str, row: SourceRow | UnreadableRow, identity: str) -> None:
        example = _example(where, row, identity, self.spec.data.document_column, self.given)
        _check_fields(where, self.spec.prompt.instruction, example.fields)
        if example.id in self.ids:
            raise UserError(f"{where}: the id {example.id!r} appears twice; ids must differ")
        self.ids.add(example.id)
        self.entries.append(example)


def read_documents(sources: Sequence[str], spec: RunSpec, given: Mapping[str, str]) -> NewDocuments:
    """The documents of files, of folders and, for `-`, of standard input.

    A file is a data file, JSON Lines, or one text. Ids come from a column `id`; without it they are line numbers or,
    with several files, names of files. The other columns are fields, and `given` takes precedence over them. `spec`
    belongs to the run that will generate: the document column of its data is tried first, and every field in its
    instruction must have a value.

    Raises `UserError` for a source that cannot be read, and, with the line, if no document can be used.
    """
    paths = [source if source == STANDARD_INPUT else str(local_path(source)) for source in sources]
    folders = {path: _files_in(Path(path)) for path in paths if path != STANDARD_INPUT and Path(path).is_dir()}
    reading = _Reading(spec, given, several=len(paths) > 1 or bool(folders))
    for path in paths:
        if path not in folders:
            reading.read(path)
        for file in folders.get(path, ()):
            try:
                reading.read(str(file))
            except UserError as error:
                reading.entries.append(LeftOut(str(error)))
    found = NewDocuments(tuple(reading.entries))
    if not found.documents:
        first, *others = found.left_out
        raise UserError(first.reason + (f" (and {len(others)} more)" if others else ""))
    return found


def _files_in(folder: Path) -> list[Path]:
    """The files of a folder and of the folders in it, in alphabetical order, without hidden ones."""
    files = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(path, name) for name in sorted(names) if not name.startswith(".")]
    if not files:
        raise UserError(f"{folder}: a folder without files; name a text or a data file")
    return files


def _nothing_in(name: str) -> UserError:
    return UserError(f"{name}: empty; give a text, or JSONL with a `document` in each line")


def _open(source: str) -> tuple[SourceTable, bool]:
    """The rows of a source, and whether it is one text."""
    suffix = Path(source).suffix.lower()
    if suffix in READERS and (suffix not in _JSON_LINES or not Path(source).exists()):
        return open_file(source), False
    name, text = _text_of(source)
    if not text.strip():
        raise _nothing_in(name)
    lines = text.split("\n")  # not at U+2028 and the like, which may occur inside a text
    if suffix in _JSON_LINES:
        return SourceTable(name, "line", _json_rows(name, lines)), False
    first = next(number for number, line in enumerate(lines, 1) if line.strip())
    if isinstance(_json(f"{name}:{first}", lines[first - 1]), dict):
        return SourceTable(name, "line", _json_rows(name, lines)), False
    if (value := _json(name, text)) is not None:
        return _json_table(name, value), False
    if any(isinstance(_json(f"{name}:{at}", line), dict) for at, line in enumerate(lines[first:], first + 1)):
        raise UserError(f"{name}:{first}: not a JSON object on one line, but later lines are; correct the line")
    return SourceTable(name, "line", iter([SourceRow(1, {DOCUMENT_NAMES[0]: text.strip()})])), True


def _text_of(source: str) -> tuple[str, str]:
    """Name and content of a file or of standard input."""
    name = "standard input" if source == STANDARD_INPUT else source
    try:
        if source != STANDARD_INPUT:
            content = Path(source).read_bytes()
        else:
            if sys.stdin.isatty():
                print("reading a text from the terminal; Ctrl-D ends it", file=sys.stderr)
            content = sys.stdin.buffer.read()
        _refuse_foreign(name, content)
        return name, content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text; convert it first") from error
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from error


def _refuse_foreign(name: str, content: bytes) -> None:
    """Raise `UserError` for a format whose source, read as a text, would be taken for its content."""
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:100].lower()
    for beginning, kind in FOREIGN:
        if start.startswith(beginning):
            way_out = f"pdftotext {name}" if kind == "a PDF" else f"pandoc {name} -t plain -o {name}.txt"
            raise UserError(f"{name}: {kind}, not plain text; extract its text first, for example with: {way_out}")


def _json_table(name: str, value: Any) -> SourceTable:
    """The rows of JSON over several lines: an array of objects or texts, or one object."""
    items = value if isinstance(value, list) else [value]
    rows: list[SourceRow | UnreadableRow] = []
    for number, item in enumerate(items, 1):
        if isinstance(item, dict):
            rows.append(SourceRow(number, item))
        elif isinstance(item, str):
            rows.append(SourceRow(number, {DOCUMENT_NAMES[0]: item}))
        else:
            rows.append(UnreadableRow(number, f"a JSON {type(item).__name__}, not an object or a text"))
    return SourceTable(name, "row", iter(rows))


def _json_rows(name: str, lines: Sequence[str]) -> Iterator[SourceRow | UnreadableRow]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _json(f"{name}:{number}", line)
        except UserError:
            yield UnreadableRow(number, "JSON that cannot be read: a number too long, or nested too deeply")
            continue
        if isinstance(row, dict):
            yield SourceRow(number, row)
        else:
            yield UnreadableRow(number, "not a JSON object on one line")


def _json(place: str, text: str) -> Any:
    """The value of a JSON object or array; None for other texts. Raises `UserError` if it is too large to read."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of nested brackets
        raise UserError(
            f"{place}: JSON that cannot be read (a number too long, or nested too deeply); correct it"
        ) from error


def _example(
    place: str, row: SourceRow | UnreadableRow, identity: str, column: str | None, given: Mapping[str, str]
) -> Example:
    if isinstance(row, UnreadableRow):
        raise UserError(f"{place}: {row.reason}; correct the row or remove it")
    usual: dict[str, str] = {}  # by lower-case name, as training looks for them
    for name in row.values:
        usual.setdefault(name.strip().lower(), name)
    wanted = [*([column] if column else []), *(usual.get(name, name) for name in DOCUMENT_NAMES)]
    texts = ((name, value) for name in wanted if isinstance(value := row.values.get(name), str) and value.strip())
    key, document = next(texts, (None, ""))
    if key is None:
        raise UserError(f"{place}: no text in {', '.join(wanted)}")
    id_name = usual.get(ID_NAME, ID_NAME)
    plain = {name: str(value) for name, value in row.values.items() if isinstance(value, str | int | float)}
    identity = plain.get(id_name, "").strip() or identity
    fields = {name: value for name, value in plain.items() if name and name not in (key, id_name)} | dict(given)
    for text in (identity, document, *fields, *fields.values()):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            message = f"{place}: not text (bytes that are not UTF-8, or an incomplete \\u escape); correct it"
            raise UserError(message) from error
    return Example(identity, document.strip(), references=(), group="", fields=fields)


def _check_fields(place: str, instruction: str, fields: Mapping[str, str]) -> None:
    for name in field_names(instruction):
        if name not in fields:
            raise UserError(
                f"{place}: the run's instruction contains the field {{{name}}}, which has no value here; add "
                f"--field {name}=VALUE, or a column {name} in JSON Lines or CSV"
            )


def given_fields(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` of --field: values for the {fields} of the run's instruction."""
    fields: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name):
            raise UserError(f"--field {text}: should have the form NAME=VALUE, for example aspect=approach")
        fields[name] = value
    return fields
