"""Finds the columns of the document and the summary, and turns rows into `Example`s."""

import difflib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tuneoff.data.example import Example, Split, group_id
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError

# In order of preference: if a table has both `document` and `text`, then `text` is a field.
DOCUMENT_NAMES = ("document", "article", "dialogue", "text", "source")
SUMMARY_NAMES = ("summary", "summaries", "highlights", "target", "tldr")
ID_NAME = "id"

ROWS_TO_INSPECT = 100  # a JSONL row may lack a column, so the first row alone does not show all of them
COLUMNS_TO_LIST = 20


@dataclass(frozen=True)
class Columns:
    """Names of the columns of one table. Every example must have the fields `required_fields`."""

    document: str
    summary: str
    identity: str = ID_NAME
    required_fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class RejectedRow:
    """A row that makes no example, and why."""

    reason: str


def find_columns(
    table: SourceTable, document: str | None, summary: str | None, required_fields: Sequence[str] = ()
) -> tuple[Columns, SourceTable]:
    """Find the columns of a table, by the given names or by the usual ones.

    Returns them with a table that still yields every row. `required_fields` are the fields that the instruction uses.
    Raises `UserError` if the table has no rows or lacks a column.
    """
    seen: dict[str, None] = {}
    inspected: list[SourceRow | UnreadableRow] = []
    readable = 0
    for row in table.rows:
        inspected.append(row)
        if isinstance(row, SourceRow):
            seen.update(dict.fromkeys(row.values))
            readable += 1
            if readable == ROWS_TO_INSPECT:
                break
    if not inspected:
        raise UserError(f"{table.name}: has no rows; give data with at least one document and its summary")
    if not readable:
        first = inspected[0]
        reason = first.reason if isinstance(first, UnreadableRow) else ""
        raise UserError(
            f"{table.location(first.number)}: no row can be read ({reason}); check that the file has text in UTF-8"
        )
    columns = Columns(
        _column(table.name, list(seen), document, DOCUMENT_NAMES, "document"),
        _column(table.name, list(seen), summary, SUMMARY_NAMES, "summary"),
        ID_NAME if ID_NAME in seen else _usual_column(seen, (ID_NAME,)) or ID_NAME,
        tuple(required_fields),
    )
    if columns.document == columns.summary:
        raise UserError(
            f"{table.name}: the column {columns.document!r} was given for both the document and the summary; "
            "correct --document-column or --summary-column"
        )
    for name in required_fields:
        if name in (columns.document, columns.summary, columns.identity):
            raise UserError(
                f"{table.name}: the instruction uses {{{name}}}, but the document is added to the prompt anyway, and "
                f"summaries and ids are never part of it; remove {{{name}}} from --instruction"
            )
        if name not in seen:
            purpose = f"{{{name}}} of the instruction"
            where = f" in the first {readable} rows" if readable == ROWS_TO_INSPECT else ""
            next_step = "correct --instruction or add the column; write {{ and }} for braces that name no column"
            raise _no_column(table.name, list(seen), name, purpose, next_step, where)
    return columns, SourceTable(table.name, table.unit, itertools.chain(inspected, table.rows), table.files)


def _column(table: str, available: list[str], given: str | None, usual: tuple[str, ...], role: str) -> str:
    if given is not None:
        if given in available:
            return given
        raise _no_column(table, available, given, f"the {role}", f"give another --{role}-column")
    found = _usual_column(available, usual)
    if found is None:
        raise UserError(
            f"{table}: no column has a usual name for the {role}; name it with --{role}-column "
            f"(columns: {_list_columns(available)})"
        )
    return found


def _no_column(table: str, available: list[str], name: str, purpose: str, next_step: str, where: str = "") -> UserError:
    close = difflib.get_close_matches(name, available, n=1)
    hint = f"did you mean {close[0]!r}?" if close else next_step
    return UserError(
        f"{table}: there is no column {name!r}{where} for {purpose}; {hint} (columns: {_list_columns(available)})"
    )


def _list_columns(available: list[str]) -> str:
    names = ", ".join(repr(name) for name in available[:COLUMNS_TO_LIST])
    return names + (f" and {len(available) - COLUMNS_TO_LIST} more" if len(available) > COLUMNS_TO_LIST else "")


def _usual_column(available: Iterable[str], usual: tuple[str, ...]) -> str | None:
    """The column with the first of the `usual` names that the table has. Case and outer white space do not matter."""
    folded: dict[str, str] = {}
    for name in available:
        folded.setdefault(name.strip().lower(), name)
    return next((folded[name] for name in usual if name in folded), None)


def to_example(row: SourceRow | UnreadableRow, columns: Columns, split: Split) -> tuple[Example, int] | RejectedRow:
    """Turn a row into an example. Also returns the number of empty references, which are left out."""
    if isinstance(row, UnreadableRow):
        return RejectedRow(row.reason)
    document = row.values.get(columns.document)
    if fault := _text_fault(document, "document"):
        return RejectedRow(fault)
    summary = row.values.get(columns.summary)
    references = summary if isinstance(summary, list | tuple) else [summary]
    faults = [_text_fault(reference, "summary") for reference in references]
    empty = faults.count("empty summary")
    if empty == len(references):
        return RejectedRow("empty summary")
    if other := next((fault for fault in faults if fault not in (None, "empty summary")), None):
        return RejectedRow(other)
    fields = {
        name: str(value)
        for name, value in row.values.items()
        if name
        and name not in (columns.document, columns.summary, columns.identity)
        and isinstance(value, str | int | float)
    }
    missing = next((name for name in columns.required_fields if name not in fields), None)
    if missing is not None:
        return RejectedRow(f"no value for {{{missing}}} of the instruction")
    identity = row.values.get(columns.identity)
    identity = str(identity).strip() if isinstance(identity, str | int | float) else ""
    if any(_is_broken(text) for item in fields.items() for text in item) or _is_broken(identity):
        return RejectedRow("another column is not text (NUL or bytes that are not UTF-8)")
    text = str(document).strip()
    example = Example(
        id=identity or f"{split}-{row.number}",
        document=text,
        references=tuple(
            str(reference).strip() for reference, fault in zip(references, faults, strict=True) if fault is None
        ),
        group=group_id(text),
        fields=fields,
    )
    return example, empty


def _text_fault(value: object, role: str) -> str | None:
    """Why a value cannot be used as a document or summary; None if it can."""
    if value is None:
        return f"empty {role}"
    if not isinstance(value, str):
        return f"{role} is not text but {type(value).__name__}"
    if not value.strip():
        return f"empty {role}"
    if _is_broken(value):
        return f"{role} is not text (NUL or bytes that are not UTF-8)"
    return None


def _is_broken(text: str) -> bool:
    """Whether a text holds NUL or a lone surrogate: half an escape of JSON, or a byte that was not UTF-8."""
    if "\0" in text:
        return True
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
