"""New documents for `tuneoff summarize`: data files as training reads them, texts, folders of them, standard input.

What is wrong with one row or one file of a folder is kept as a sentence, and the others are read.
"""

import io
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tuneoff.cli.output import say
from tuneoff.cli.unfinished_texts import SUFFIX
from tuneoff.data import ColumnsTaken, Example
from tuneoff.data.byte_source import ByteSource, file_source, reading, zip_sources
from tuneoff.data.columns import DOCUMENT_NAMES, ID_NAME, document_of
from tuneoff.data.encoding import text_encoding
from tuneoff.data.file_kinds import PARQUET, ZIP, is_workbook, refuse_foreign
from tuneoff.data.files import READERS, expanded, has_data_suffix, local_path, no_such_file, open_source
from tuneoff.data.nested import nested_columns
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError
from tuneoff.options import STANDARD_INPUT
from tuneoff.prompts import field_names
from tuneoff.spec import RunSpec

_MOST_COLUMNS = 12  # that a message lists


@dataclass(frozen=True)
class LeftOut:
    """A row or a file that is left out, and why."""

    reason: str


@dataclass(frozen=True)
class NewDocuments:
    """The documents to write texts for, and what is left out, in the order of the sources.

    `cautions` are sentences about how the sources are read.
    """

    entries: tuple[Example | LeftOut, ...]
    cautions: tuple[str, ...] = ()

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
    encoding: str | None
    taken: ColumnsTaken | None
    column: str | None
    cautions: list[str] = field(default_factory=list)
    entries: list[Example | LeftOut] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def read(self, source: ByteSource) -> None:
        """Read a source. Raises `UserError` if it cannot be read from the start."""
        table, is_text = _open(source, self.encoding)
        self.cautions += table.cautions
        column = self.column or self.spec.data.document_column or (self.taken.document if self.taken else "")
        rows = nested_columns(table.rows, [column, *field_names(self.spec.prompt.instruction)])
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
                self._add(where, row, where if self.several else str(row.number), is_text=is_text)
            except UserError as error:
                self.entries.append(LeftOut(str(error)))
        if first:
            raise _nothing_in(table.name)

    def _add(self, where: str, row: SourceRow | UnreadableRow, identity: str, *, is_text: bool) -> None:
        own = self.spec.data.document_column
        example = _example(where, row, identity, own, self.taken, self.given, only=None if is_text else self.column)
        _check_fields(where, self.spec.prompt.instruction, example.fields)
        if example.id in self.ids:
            raise UserError(f"{where}: the id {example.id!r} appears twice; ids must differ")
        self.ids.add(example.id)
        self.entries.append(example)


def read_documents(
    sources: Sequence[str],
    spec: RunSpec,
    given: Mapping[str, str],
    encoding: str | None = None,
    taken: ColumnsTaken | None = None,
    column: str | None = None,
    output: Path | None = None,
) -> NewDocuments:
    """The documents of files, of folders and zip archives and, for `-`, of standard input.

    A file is a data file as training reads it, or one text. Ids come from a column `id`; without it they are line
    numbers or, with several files, names of files. The other columns are fields, and `given` takes precedence over
    them. `spec` belongs to the run that will generate: every field in its instruction must have a value. A row that has
    the column of its training documents (`taken`, if that is known) is read from it alone, as in training. `encoding`
    is that of text files; None finds it. With `column`, rows are read from that column and no other. In folders and
    patterns, `output` and its unfinished form are left out if an earlier command has put them there.

    Raises `UserError` for a source that cannot be read, and, with the line, if no document can be used. Also if
    `output` would replace a document.
    """
    own = _OwnFiles(output)
    paths = []
    for source in sources:
        found_paths = [source] if source == STANDARD_INPUT else expanded(source)
        paths += [path for path in found_paths if path == source or not own.include(local_path(path))]
    members = {path: files for path in paths if (files := _members(path, own)) is not None}
    progress = _Reading(
        spec, given, several=len(paths) > 1 or bool(members), encoding=encoding, taken=taken, column=column
    )
    for path in paths:
        if path not in members:
            progress.read(_source_of(path))
        for member in members.get(path, ()):
            try:
                progress.read(member if isinstance(member, ByteSource) else file_source(member))
            except UserError as error:
                progress.entries.append(LeftOut(str(error)))
    found = NewDocuments(tuple(progress.entries), tuple(dict.fromkeys(progress.cautions)))
    if not paths:
        raise UserError(f"{sources[0]}: matches only --output {output}; name the documents")
    if not found.documents:
        first, *others = found.left_out
        raise UserError(first.reason + (f" (and {len(others)} more)" if others else ""))
    if output is None or not own.output_was_met:
        return found
    if not _is_of_an_earlier_command(output, {*paths, *(example.id for example in found.documents)}):
        raise UserError(
            f"--output {output}: is among the documents, and nothing shows that an earlier command wrote it; name "
            "another file, or move this one elsewhere"
        )
    said = f"{output}: left out of the documents, because an earlier command wrote it; the texts replace it"
    return replace(found, cautions=(*found.cautions, said))


class _OwnFiles:
    """What an earlier command may have written: the output and its unfinished form.

    `output_was_met`: whether the output was asked for among the documents.
    """

    def __init__(self, output: Path | None) -> None:
        self._output = None if output is None else _place(output)
        self._unfinished = None if output is None else _place(output.with_name(output.name + SUFFIX))
        self.output_was_met = False

    def include(self, path: Path) -> bool:
        """Whether `path` is one of them."""
        place = _place(path)
        self.output_was_met |= place == self._output
        return place in (self._output, self._unfinished)


def _place(path: Path) -> Path:
    return Path(os.path.realpath(path))


def text_line(identity: str, text: str) -> str:
    """One text with the id of its document, as a line of JSON Lines."""
    return json.dumps({"id": identity, "text": text}, ensure_ascii=False)


def _is_of_an_earlier_command(output: Path, known: Collection[str]) -> bool:
    """Whether a file holds texts with ids, exactly as they are written here, and one of these ids at least.

    Texts without ids look as any text does. An empty file holds nothing that could be lost.
    """
    found = set()
    try:
        with output.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                row = json.loads(line)
                identity, text = (row.get("id"), row.get("text")) if isinstance(row, dict) else (None, None)
                if (
                    not isinstance(identity, str)
                    or not isinstance(text, str)
                    or line != f"{text_line(identity, text)}\n"
                ):
                    return False
                found.add(identity)
    except (ValueError, RecursionError):  # not JSON, or not UTF-8
        return False
    return not found or not found.isdisjoint(known)


def _members(path: str, own: _OwnFiles) -> Sequence[Path] | Sequence[ByteSource] | None:
    """The files of a folder or a zip archive; None for a file alone. Raises `UserError` if there is none."""
    if path == STANDARD_INPUT:
        return None
    file = local_path(path)
    if file.is_dir():
        return _files_in(file, own)
    if not file.exists() and has_data_suffix(path):
        raise no_such_file(file)
    if file.exists() and not file.is_file():
        return None  # a pipe, which can be read once
    source = file_source(file)
    start = source.start
    if not start.startswith(ZIP) or source.suffix == ".xlsx":
        return None
    refuse_foreign(source.name, start)
    if is_workbook(start):
        raise UserError(f"{file}: an Excel workbook by its content; rename it so that its name ends in .xlsx")
    members = zip_sources(file)
    if not members:
        raise UserError(f"{file}: a zip archive without files; name a text or a data file")
    return members


def _source_of(path: str) -> ByteSource:
    if path == STANDARD_INPUT:
        if sys.stdin is None:
            raise UserError("standard input is closed; name a file")
        if sys.stdin.isatty():
            say("reading a text from the terminal; Ctrl-D ends it")
        with reading("standard input"):
            return _in_memory("standard input", sys.stdin.buffer.read())
    file = local_path(path)
    if not file.is_fifo():  # a pipe that was typed is read, once; one in a folder is not
        return file_source(file)
    with reading(path):
        return _in_memory(path, file.read_bytes())


def _in_memory(name: str, content: bytes) -> ByteSource:
    return ByteSource(name, Path(name), lambda: io.BytesIO(content))


def _files_in(folder: Path, own: _OwnFiles) -> list[Path]:
    """The files of a folder and of the folders in it, in alphabetical order, without hidden ones and our own."""
    files = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found = [Path(path, name) for name in sorted(names) if not name.startswith(".")]
        files += [file for file in found if not own.include(file)]
    if not files:
        raise UserError(f"{folder}: a folder without files; name a text or a data file")
    return files


def _nothing_in(name: str) -> UserError:
    return UserError(f"{name}: empty; give a text, or JSONL with a `document` in each line")


def _open(source: ByteSource, encoding: str | None) -> tuple[SourceTable, bool]:
    """The rows of a source, and whether it is one text."""
    start = source.start
    if not start:
        raise _nothing_in(source.name)
    if source.suffix in READERS:
        return open_source(source, encoding), False
    refuse_foreign(source.name, start)
    if start.startswith(ZIP):
        raise UserError(f"{source.name}: a zip archive; unpack it first")
    if start.startswith(PARQUET):
        return open_source(source, encoding, ".parquet"), False
    found = text_encoding(source, encoding)
    with source.text(found.name, newline="") as stream:
        text = stream.read()
    if not text.strip():
        raise _nothing_in(source.name)
    if _holds_json(source.name, text):
        return open_source(source, encoding, ".json"), False
    row = SourceRow(1, {DOCUMENT_NAMES[0]: text.strip()})
    cautions = () if found.caution is None else (found.caution,)
    return SourceTable(source.name, "line", iter([row]), cautions=cautions), True


def _holds_json(name: str, text: str) -> bool:
    """Whether a text without an extension is JSON. Raises `UserError` for JSON Lines that start with a damaged line."""
    lines = text.split("\n")  # not at U+2028 and the like, which may occur inside a text
    first = next(number for number, line in enumerate(lines, 1) if line.strip())
    if isinstance(_json(lines[first - 1]), dict) or _json(text) is not None:
        return True
    if any(isinstance(_json(line), dict) for line in lines[first:]):
        raise UserError(f"{name}:{first}: not a JSON object on one line, but later lines are; correct the line")
    return False


def _json(text: str) -> object:
    """The value of a JSON object or array; None for other texts. One that is too large is empty: its row says so."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None
    except (ValueError, RecursionError):  # a number of thousands of digits; thousands of nested brackets
        return {}


def _example(
    place: str,
    row: SourceRow | UnreadableRow,
    identity: str,
    column: str | None,
    taken: ColumnsTaken | None,
    given: Mapping[str, str],
    only: str | None = None,
) -> Example:
    if isinstance(row, UnreadableRow):
        raise UserError(f"{place}: {row.reason}; correct the row or remove it")
    usual: dict[str, str] = {}  # by lower-case name, as training looks for them
    for name in row.values:
        usual.setdefault(name.strip().lower(), name)
    of_training = column if column or taken is None else taken.document
    added = None if column or taken is None or taken.added_to_document not in row.values else taken.added_to_document
    wanted = [usual.get(name, name) for name in DOCUMENT_NAMES]
    if of_training is not None and of_training in row.values:
        wanted = [of_training]
    elif column:
        wanted = [column, *wanted]
    if only is not None:
        wanted, added = [only], None
    texts = (
        (name, value)
        for name in wanted
        if isinstance(value := document_of(row.values, name, added), str) and value.strip()
    )
    key, document = next(texts, (None, ""))
    if key is None:
        raise UserError(f"{place}: {_no_document(wanted, row.values)}")
    id_name = usual.get(ID_NAME, ID_NAME)
    plain = {name: str(value) for name, value in row.values.items() if isinstance(value, str | int | float)}
    identity = plain.get(id_name, "").strip() or identity
    fields = {name: value for name, value in plain.items() if name and name not in (key, id_name, added)} | dict(given)
    for text in (identity, document, *fields, *fields.values()):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            message = f"{place}: not text (bytes that are not UTF-8, or an incomplete \\u escape); correct it"
            raise UserError(message) from error
    return Example(identity, document.strip(), references=(), group="", fields=fields)


def _no_document(wanted: Sequence[str], values: Mapping[str, object]) -> str:
    """Why a row has no document, and the way out if none of its columns is one of documents."""
    found = [name for name in wanted if name in values]
    reason = f"no text in {', '.join(found or wanted)}"
    if found or not values:
        return reason
    columns = ", ".join(list(values)[:_MOST_COLUMNS])
    return f"{reason}; its columns are {columns}: name one with --document-column"


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
