"""New documents for `tuneoff summarize`: a data file as training reads it, JSON Lines, or one plain text."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneoff.data import Example
from tuneoff.data.columns import DOCUMENT_NAMES, ID_NAME
from tuneoff.data.files import READERS, open_file
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError
from tuneoff.prompts import field_names
from tuneoff.spec import RunSpec


def read_documents(source: str, spec: RunSpec, given: Mapping[str, str]) -> list[Example]:
    """The documents of a file or, for `-`, of standard input. Ids come from a column `id` or are line numbers; the
    other columns are fields, and `given` takes precedence over them.

    `spec` belongs to the run that will generate: the document column of its data is tried first, and every field in
    its instruction must have a value. Raises `UserError`, with the line, for what cannot be read or used.
    """
    table = open_file(source) if Path(source).suffix.lower() in READERS else _without_extension(source)
    found: dict[str, Example] = {}
    for row in table.rows:
        place = table.location(row.number)
        example = _example(place, row, spec.data.document_column, given)
        _check_fields(place, spec.prompt.instruction, example.fields)
        if example.id in found:
            raise UserError(f"{place}: the id {example.id!r} appears twice; ids must differ")
        found[example.id] = example
    if not found:
        raise _nothing_in(table.name)
    return list(found.values())


def _nothing_in(name: str) -> UserError:
    return UserError(f"{name}: empty; give a text, or JSONL with a `document` in each line")


def _without_extension(source: str) -> SourceTable:
    """JSON Lines, recognised by the first line, or else one plain text."""
    name = "standard input" if source == "-" else source
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text; convert it first") from error
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from error
    if not text.strip():
        raise _nothing_in(name)
    lines = text.split("\n")  # not at U+2028 and the like, which may occur inside a text
    first = next(number for number, line in enumerate(lines, 1) if line.strip())
    if isinstance(_json(f"{name}:{first}", lines[first - 1]), dict):
        return SourceTable(name, "line", _json_rows(name, lines))
    if isinstance(_json(name, text), dict | list):
        raise UserError(
            f"{name}: JSON, but not one object per line; write it as JSON Lines, without enclosing brackets"
        )
    if any(isinstance(_json(f"{name}:{at}", line), dict) for at, line in enumerate(lines[first:], first + 1)):
        raise UserError(f"{name}:{first}: not a JSON object on one line, but later lines are; correct the line")
    return SourceTable(name, "line", iter([SourceRow(1, {DOCUMENT_NAMES[0]: text.strip()})]))


def _json_rows(name: str, lines: Sequence[str]) -> Iterator[SourceRow]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _json(f"{name}:{number}", line)
        if not isinstance(row, dict):
            raise UserError(f"{name}:{number}: not a JSON object on one line, but the first line is")
        yield SourceRow(number, row)


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


def _example(place: str, row: SourceRow | UnreadableRow, column: str | None, given: Mapping[str, str]) -> Example:
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
    identity = plain.get(id_name, "").strip() or str(row.number)
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
