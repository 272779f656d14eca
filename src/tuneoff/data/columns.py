"""Which columns hold the document and the summary, and how a row becomes an `Example`."""

import difflib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tuneoff.data.example import Example, Split, group_of
from tuneoff.data.table import Row, Table, Unreadable
from tuneoff.errors import UserError

# In order of preference: with both `document` and `text`, the document is `document` and `text` is a field.
DOCUMENT_NAMES = ("document", "article", "dialogue", "text", "source")
SUMMARY_NAMES = ("summary", "summaries", "highlights", "target", "tldr")
ID_NAME = "id"

ROWS_TO_LOOK_AT = 100  # a JSONL row may lack a column, so the first row alone does not tell which there are
COLUMNS_TO_LIST = 20


@dataclass(frozen=True)
class Columns:
    """The names that matter in one table. `wanted`: fields that every example must have."""

    document: str
    summary: str
    identity: str = ID_NAME
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """Why a row gives no example."""

    reason: str


def find_columns(
    table: Table, document: str | None, summary: str | None, wanted: Sequence[str] = ()
) -> tuple[Columns, Table]:
    """The columns of a table, as given or by their usual names, and the table with all its rows still to be read.

    `wanted`: names of fields that the instruction is filled with. Raises `UserError` when the table has no row, or not
    these columns.
    """
    seen: dict[str, None] = {}
    first: list[Row | Unreadable] = []
    good = 0
    for row in table.rows:
        first.append(row)
        if isinstance(row, Row):
            seen.update(dict.fromkeys(row.values))
            good += 1
            if good == ROWS_TO_LOOK_AT:
                break
    if not first:
        raise UserError(f"{table.name}: there is no row in it; give data with at least one document and its summary")
    if not good:
        worst = first[0]
        reason = worst.reason if isinstance(worst, Unreadable) else ""
        raise UserError(f"{table.where(worst.number)}: no row could be read, this one because of: {reason}")
    columns = Columns(
        _column(table.name, list(seen), document, DOCUMENT_NAMES, "document"),
        _column(table.name, list(seen), summary, SUMMARY_NAMES, "summary"),
        ID_NAME if ID_NAME in seen else _usual(seen, (ID_NAME,)) or ID_NAME,
        tuple(wanted),
    )
    if columns.document == columns.summary:
        raise UserError(f"{table.name}: the column {columns.document!r} was given for both document and summary")
    for name in wanted:
        if name in (columns.document, columns.summary, columns.identity):
            raise UserError(
                f"{table.name}: the instruction names {{{name}}}, which is no field: the document follows it by "
                "itself, and summaries and ids are no part of a prompt; take it out of --instruction"
            )
        if name not in seen:
            of = f"{{{name}}} of the instruction"
            looked = f" in the first {good} rows" if good == ROWS_TO_LOOK_AT else ""
            raise _no_column(table.name, list(seen), name, of, "correct --instruction or add the column", looked)
    return columns, Table(table.name, table.unit, itertools.chain(first, table.rows), table.files)


def _column(table: str, there: list[str], given: str | None, usual: tuple[str, ...], what: str) -> str:
    if given is not None:
        if given in there:
            return given
        raise _no_column(table, there, given, f"the {what}", f"give another --{what}-column")
    found = _usual(there, usual)
    if found is None:
        way_out = f"name it with --{what}-column"
        raise UserError(
            f"{table}: none of its columns has a usual name for the {what}; {way_out} (columns: {_listed(there)})"
        )
    return found


def _no_column(table: str, there: list[str], name: str, of: str, way_out: str, looked: str = "") -> UserError:
    close = difflib.get_close_matches(name, there, n=1)
    hint = f"did you mean {close[0]!r}?" if close else way_out
    return UserError(f"{table}: there is no column {name!r}{looked} for {of}; {hint} (columns: {_listed(there)})")


def _listed(there: list[str]) -> str:
    names = ", ".join(repr(name) for name in there[:COLUMNS_TO_LIST])
    return names + (f" and {len(there) - COLUMNS_TO_LIST} more" if len(there) > COLUMNS_TO_LIST else "")


def _usual(there: Iterable[str], usual: tuple[str, ...]) -> str | None:
    """The first column that is called by one of the `usual` names, the earlier of them first."""
    folded: dict[str, str] = {}
    for name in there:
        folded.setdefault(name.strip().lower(), name)
    return next((folded[name] for name in usual if name in folded), None)


def to_example(row: Row | Unreadable, columns: Columns, split: Split) -> tuple[Example, int] | Rejected:
    """The example of a row and how many of its references were empty and left out, or why it gives none."""
    if isinstance(row, Unreadable):
        return Rejected(row.reason)
    document = row.values.get(columns.document)
    if fault := _fault(document, "document"):
        return Rejected(fault)
    given = row.values.get(columns.summary)
    references = given if isinstance(given, list | tuple) else [given]
    faults = [_fault(reference, "summary") for reference in references]
    empty = faults.count("empty summary")
    if empty == len(references):
        return Rejected("empty summary")
    if other := next((fault for fault in faults if fault not in (None, "empty summary")), None):
        return Rejected(other)
    fields = {
        name: str(value)
        for name, value in row.values.items()
        if name
        and name not in (columns.document, columns.summary, columns.identity)
        and isinstance(value, str | int | float)
    }
    lacking = next((name for name in columns.wanted if name not in fields), None)
    if lacking is not None:
        return Rejected(f"nothing to fill {{{lacking}}} of the instruction with")
    identity = row.values.get(columns.identity)
    identity = str(identity).strip() if isinstance(identity, str | int | float) else ""
    if any(_is_broken(text) for item in fields.items() for text in item) or _is_broken(identity):
        return Rejected("a field beside document and summary is not text (NUL or bytes that are not UTF-8)")
    text = str(document).strip()
    example = Example(
        id=identity or f"{split}-{row.number}",
        document=text,
        references=tuple(
            str(reference).strip() for reference, fault in zip(references, faults, strict=True) if fault is None
        ),
        group=group_of(text),
        fields=fields,
    )
    return example, empty


def _fault(value: object, what: str) -> str | None:
    if value is None:
        return f"empty {what}"
    if not isinstance(value, str):
        return f"{what} is not text but {type(value).__name__}"
    if not value.strip():
        return f"empty {what}"
    if _is_broken(value):
        return f"{what} is not text (NUL or bytes that are not UTF-8)"
    return None


def _is_broken(text: str) -> bool:
    """Whether a text holds NUL, or lone surrogates: JSON's half escapes and bytes that were not UTF-8."""
    if "\0" in text:
        return True
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def rows_of(table: Table) -> Iterator[tuple[str, Row | Unreadable]]:
    """The rows of a table with their places."""
    return ((table.where(row.number), row) for row in table.rows)
