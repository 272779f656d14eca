"""Finds the columns of the document and the summary, and turns rows into `Example`s."""

import difflib
import itertools
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tuneoff.data.example import ColumnsTaken, Example, Split, group_id
from tuneoff.data.nested import nested_columns, nested_names
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow, way_out_of
from tuneoff.errors import UserError

# In order of preference: if a table has both `document` and `text`, then `text` is a field.
DOCUMENT_NAMES = (
    "document", "article", "dialogue", "text", "source", "src", "messages.user", "conversations.user", "prompt",
    "input", "instruction",
)  # fmt: skip
SUMMARY_NAMES = (
    "summary", "summaries", "highlights", "target", "tldr", "tgt", "messages.assistant", "conversations.assistant",
    "completion", "output", "response",
)  # fmt: skip
ID_NAME = "id"
INSTRUCTION_NAME, INPUT_NAME = "instruction", "input"  # the columns of Alpaca
_NUMBERED = re.compile(r"(summary|reference|highlights|target|tldr)[ _-]?\d+")
# Texts that programs write for a missing value. As a word of a longer text they are nothing special.
MISSING_VALUES = frozenset(("nan", "NaN", "NAN", "None", "N/A", "n/a", "NA", "<NA>", "#N/A", "null", "NULL"))
TWO_PARTS = "\n\n"  # between the instruction of Alpaca and its input
_DAMAGED_BYTE = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of a byte that is not UTF-8

ROWS_TO_INSPECT = 100  # a JSONL row may lack a column, so the first row alone does not show all of them
COLUMNS_TO_LIST = 20


@dataclass(frozen=True)
class Columns:
    """Names of the columns of one table. Every example must have the fields `required_fields`."""

    document: str
    summary: tuple[str, ...]
    identity: str = ID_NAME
    required_fields: tuple[str, ...] = ()
    added_to_document: str | None = None  # a column whose text, if there is one, follows that of the document
    summary_lists: Literal["references", "sentences"] = "references"

    @property
    def used(self) -> tuple[str, ...]:
        """The columns that are not fields."""
        added = () if self.added_to_document is None else (self.added_to_document,)
        return self.document, *self.summary, self.identity, *added


@dataclass(frozen=True)
class RejectedRow:
    """A row that makes no example, and why. `unreadable`: its text is lost, not missing."""

    reason: str
    unreadable: bool = False


@dataclass(frozen=True)
class FoundColumns:
    """The columns of a table, what was taken and passed over, and the table, which still yields every row."""

    columns: Columns
    taken: ColumnsTaken
    table: SourceTable
    cautions: tuple[str, ...] = ()


def find_columns(
    table: SourceTable,
    document: str | None,
    summary: str | None,
    required_fields: Sequence[str] = (),
    summary_lists: Literal["references", "sentences"] | None = None,
    split: Split = "train",
    *,
    joins_input: bool = False,
) -> FoundColumns:
    """Find the columns of a table, by the given names or by the usual ones.

    `summary` may be several names with commas between them; those that the table has are taken. `required_fields` are
    the fields that the instruction uses. With `joins_input`, the document of a table in the form of Alpaca is the
    instruction with the input, as in another table of the same data.

    Raises `UserError` if the table has no rows or lacks a column.
    """
    asked = [document or "", *(part.strip() for part in (summary or "").split(",")), *required_fields]
    if nested := [name for name in asked if "." in name]:
        table = replace(table, rows=nested_columns(table.rows, nested))
    inspected = first_rows(table)
    rows = [row for row in inspected if isinstance(row, SourceRow)]
    seen = list(dict.fromkeys(name for row in rows for name in row.values))
    if any(name not in seen for name in nested):
        inside = list(dict.fromkeys(name for row in rows for name in nested_names(row.values) if name not in seen))
        missing = next(name for name in nested if name not in seen)
        if close := difflib.get_close_matches(missing, inside, n=1):
            raise _no_column(table.name, [*seen, *inside], missing, "a value inside an object", close[0])
    first = Columns(
        _document_column(table.name, seen, document, rows, joins_input=joins_input),
        _summary_columns(table.name, seen, summary, rows),
        ID_NAME if ID_NAME in seen else usual_column(seen, (ID_NAME,)) or ID_NAME,
        tuple(required_fields),
    )
    if first.document in first.summary:
        raise UserError(
            f"{table.name}: the column {first.document!r} was given for both the document and the summary; "
            "correct --document-column or --summary-column"
        )
    columns = replace(
        first,
        added_to_document=None if document is not None else _added_input(first.document, seen),
        summary_lists=summary_lists or ("sentences" if _are_lists(rows, first.document) else "references"),
    )
    for name in required_fields:
        if name in columns.used:
            raise UserError(
                f"{table.name}: the instruction uses {{{name}}}, but the document is added to the prompt anyway, and "
                f"summaries and ids are never part of it; remove {{{name}}} from --instruction"
            )
        if name not in seen:
            purpose = f"{{{name}}} of the instruction"
            where = f" in the first {len(rows)} rows" if len(rows) == ROWS_TO_INSPECT else ""
            next_step = "correct --instruction or add the column; write {{ and }} for braces that name no column"
            raise _no_column(table.name, seen, name, purpose, next_step, where)
    fields = tuple(name for name in seen if name and name not in columns.used and _has_field(rows, name))
    passed_over = {
        "document": _passed_over(fields, DOCUMENT_NAMES) if document is None else (),
        "summary": _passed_over(fields, SUMMARY_NAMES) if summary is None else (),
    }
    taken = ColumnsTaken(
        columns.document,
        columns.summary,
        fields,
        (*passed_over["document"], *passed_over["summary"]),
        columns.added_to_document,
    )
    cautions = [
        *_several_candidates("document", (columns.document,), passed_over["document"]),
        *_several_candidates("summary", columns.summary, passed_over["summary"]),
        *_list_cautions(columns, rows, warn_of_references=summary_lists is None and split != "test"),
        *_instruction_cautions(columns, fields),
    ]
    again = replace(table, rows=itertools.chain(inspected, table.rows))
    return FoundColumns(columns, taken, again, (*table.cautions, *(f"{table.name}: {text}" for text in cautions)))


def first_rows(table: SourceTable) -> list[SourceRow | UnreadableRow]:
    """The rows up to the last of those to inspect. Raises `UserError` if none can be read."""
    inspected: list[SourceRow | UnreadableRow] = []
    readable = 0
    for row in table.rows:
        inspected.append(row)
        readable += isinstance(row, SourceRow)
        if readable == ROWS_TO_INSPECT:
            break
    if not inspected:
        raise UserError(f"{table.name}: has no rows; give data with at least one document and its summary")
    if not readable:
        first = inspected[0]
        reason = first.reason if isinstance(first, UnreadableRow) else ""
        raise UserError(f"{table.location(first.number)}: no row can be read ({reason}); {way_out_of(reason)}")
    return inspected


def _document_column(
    table: str, available: list[str], given: str | None, rows: Sequence[SourceRow], *, joins_input: bool
) -> str:
    if given is None:
        found = usual_column(available, DOCUMENT_NAMES)
        if found is not None and found.strip().lower() == INPUT_NAME:
            instruction = usual_column(available, (INSTRUCTION_NAME,))
            if instruction is not None and (joins_input or _is_asked_by(instruction, found, rows)):
                return instruction
        return found if found is not None else _no_usual_column(table, available, "document", rows)
    if given in available:
        return given
    raise _no_column(table, available, given, "the document", "give another --document-column")


def _summary_columns(table: str, available: list[str], given: str | None, rows: Sequence[SourceRow]) -> tuple[str, ...]:
    if given is None:
        return usual_summaries(available) or (_no_usual_column(table, available, "summary", rows),)
    if given in available:
        return (given,)
    several = tuple(name for name in (part.strip() for part in given.split(",")) if name in available)
    if several and "," in given:
        return several
    raise _no_column(table, available, given, "the summary", "give another --summary-column")


def usual_summaries(available: Iterable[str]) -> tuple[str, ...]:
    """The column of the summary, or its numbered columns, by their usual names; empty if there is none."""
    names = list(available)
    if (found := usual_column(names, SUMMARY_NAMES)) is not None:
        return (found,)
    return tuple(name for name in names if _NUMBERED.fullmatch(name.strip().lower()))


def _no_usual_column(table: str, available: list[str], role: str, rows: Sequence[SourceRow]) -> str:
    below = [row.values for row in rows if any(row.values.get(name) != name for name in available)]  # no second header
    cell = next((name for name in available if looks_like_a_cell(name, [row.get(name) for row in below])), None)
    if cell is not None:
        raise UserError(
            f"{table}: its first line seems to be a row, not the names of the columns "
            f"({_shortened(cell)}); write a line such as document,summary above it, or, if these are names, give "
            "--document-column and --summary-column"
        )
    inside = list(dict.fromkeys(name for row in rows for name in nested_names(row.values)))
    raise UserError(
        f"{table}: no column has a usual name for the {role}; name it with --{role}-column "
        f"(columns: {_list_columns([*available, *inside])})"
    )


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}..."


def looks_like_a_cell(name: str, below: Sequence[object]) -> bool:
    """Whether the name of a column is rather one of its values: a sentence, one that comes again, or as they are."""
    words = len(name.split())
    if len(name) > 60 or words > 6 or (words > 1 and name.endswith((".", "?", "!"))):
        return True
    texts = [value.strip() for value in below if isinstance(value, str)]
    if not name or not texts:
        return False
    if name in texts or (name.isdecimal() and all(text.isdecimal() for text in texts)):
        return True
    return words > 2 and words >= statistics.median(len(text.split()) for text in texts)


def _is_asked_by(instruction: str, given: str, rows: Sequence[SourceRow]) -> bool:
    """Whether the instructions are the documents: they differ, and some have no input."""
    asked = {row.values.get(instruction) for row in rows if isinstance(row.values.get(instruction), str)}
    without = sum(_is_empty(row.values.get(given)) for row in rows)
    return len(asked) > 1 and without > 0


def _added_input(document: str, available: list[str]) -> str | None:
    """The column `input` if the document is the column `instruction` of the same table."""
    return usual_column(available, (INPUT_NAME,)) if document.strip().lower() == INSTRUCTION_NAME else None


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _are_lists(rows: Sequence[SourceRow], column: str) -> bool:
    return any(isinstance(row.values.get(column), list | tuple) for row in rows)


def _has_field(rows: Sequence[SourceRow], name: str) -> bool:
    return any(isinstance(row.values.get(name), str | int | float) for row in rows)


def _passed_over(fields: Sequence[str], usual: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in fields if name.strip().lower() in usual and name.strip().lower() != INSTRUCTION_NAME)


def _several_candidates(role: str, taken: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
    if not others:
        return []
    chosen, passed_over = _list_columns(list(taken)), _list_columns(list(others))
    return [
        f"the {role} is taken from {chosen}, and {passed_over} passed over, which could be the {role} too; "
        f"--{role}-column NAME settles it"
    ]


def _list_cautions(columns: Columns, rows: Sequence[SourceRow], warn_of_references: bool) -> list[str]:
    """Several references are usual in a test split, so there is no warning of them there."""
    cautions = []
    if _are_lists(rows, columns.document):
        cautions.append("each document is a list of texts; they are joined with spaces")
    lengths = sorted(
        len(value)
        for row in rows
        for name in columns.summary
        if isinstance(value := row.values.get(name), list | tuple)
    )
    if warn_of_references and lengths and lengths[len(lengths) // 2] > 1:
        count = f"{lengths[0]} to {lengths[-1]}" if lengths[0] < lengths[-1] else f"{lengths[0]}"
        if columns.summary_lists == "sentences":
            cautions.append(
                f"each summary is a list of {count} texts, and so is the document; they are joined as the sentences of "
                "one summary; --summary-lists references takes them as alternatives"
            )
        else:
            cautions.append(
                f"each summary is a list of {count} texts; they are taken as alternative references, and training uses "
                "the first alone; --summary-lists sentences joins them into one summary, --summary-lists references "
                "confirms it"
            )
    return cautions


def _instruction_cautions(columns: Columns, fields: Sequence[str]) -> list[str]:
    if columns.added_to_document is not None:
        return [
            f"the document is the {columns.document!r} with the {columns.added_to_document!r} of the row, if any, "
            "below it; --document-column NAME takes one column alone"
        ]
    instruction = usual_column(fields, (INSTRUCTION_NAME,))
    if instruction is None or columns.document.strip().lower() != INPUT_NAME or instruction in columns.required_fields:
        return []
    return [
        f"the column {instruction!r} is not part of the prompt; --instruction '{{{instruction}}}' makes each its row's "
        "instruction"
    ]


def _no_column(table: str, available: list[str], name: str, purpose: str, next_step: str, where: str = "") -> UserError:
    close = difflib.get_close_matches(name, available, n=1)
    hint = f"did you mean {close[0]!r}?" if close else next_step
    return UserError(
        f"{table}: there is no column {name!r}{where} for {purpose}; {hint} (columns: {_list_columns(available)})"
    )


def _list_columns(available: list[str]) -> str:
    names = ", ".join(repr(name) for name in available[:COLUMNS_TO_LIST])
    return names + (f" and {len(available) - COLUMNS_TO_LIST} more" if len(available) > COLUMNS_TO_LIST else "")


def usual_column(available: Iterable[str], usual: tuple[str, ...]) -> str | None:
    """The column with the first of the `usual` names that the table has. Case and outer white space do not matter."""
    folded: dict[str, str] = {}
    for name in available:
        folded.setdefault(name.strip().lower(), name)
    return next((folded[name] for name in usual if name in folded), None)


def to_example(row: SourceRow | UnreadableRow, columns: Columns, split: Split) -> tuple[Example, int] | RejectedRow:
    """Turn a row into an example. Also returns the number of empty references, which are left out."""
    if isinstance(row, UnreadableRow):
        return RejectedRow(row.reason, unreadable=True)
    document = document_of(row.values, columns.document, columns.added_to_document)
    if fault := _text_fault(document, "document"):
        return RejectedRow(fault, unreadable=_is_damaged(document))
    references = [
        reference for name in columns.summary for reference in _references(row.values.get(name), columns.summary_lists)
    ]
    if str(document).strip() == columns.document and [str(text).strip() for text in references] == [*columns.summary]:
        return RejectedRow("a second header line")
    faults = [_text_fault(reference, "summary") for reference in references]
    empty = faults.count("empty summary")
    if empty == len(references):
        return RejectedRow("empty summary")
    if other := next((fault for fault in faults if fault not in (None, "empty summary")), None):
        return RejectedRow(other, unreadable=any(map(_is_damaged, references)))
    fields = _fields_of(row.values, columns)
    missing = next((name for name in columns.required_fields if name not in fields), None)
    if missing is not None:
        return RejectedRow(f"no value for {{{missing}}} of the instruction")
    identity = row.values.get(columns.identity)
    identity = str(identity).strip() if isinstance(identity, str | int | float) else ""
    text = str(document).strip()
    example = Example(
        id=identity if identity and not _is_broken(identity) else f"{split}-{row.number}",
        document=text,
        references=tuple(
            str(reference).strip() for reference, fault in zip(references, faults, strict=True) if fault is None
        ),
        group=group_id(text),
        fields=fields,
    )
    return example, empty


def document_of(values: Mapping[str, object], column: str, added: str | None) -> object:
    """The document of a row, with the text of the column `added` below it, if there is one. It may be no text."""
    document = text_of(values.get(column))
    below = None if added is None else text_of(values.get(added))
    if not isinstance(document, str) or not isinstance(below, str) or not below.strip():
        return document
    return f"{document.strip()}{TWO_PARTS}{below.strip()}".strip()


def _fields_of(values: Mapping[str, object], columns: Columns) -> dict[str, str]:
    """The other columns. A value that is not text is left out: nobody may use it, and the row is sound without it."""
    return {
        name: text
        for name, value in values.items()
        if name and name not in columns.used and isinstance(value, str | int | float) and value == value  # not NaN
        if not _is_broken(text := str(value)) and not _is_broken(name)
    }


def text_of(value: object) -> object:
    """A number as its text, as CSV has it, and a list of texts joined; NaN is a missing value."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return " ".join(part.strip() for part in value if part.strip())
    return value


def _references(value: object, lists: Literal["references", "sentences"]) -> list[object]:
    if lists == "references" and isinstance(value, list | tuple):
        return [text_of(part) if not isinstance(part, list | tuple) else part for part in value]
    return [text_of(value)]


def _text_fault(value: object, role: str) -> str | None:
    """Why a value cannot be used as a document or summary; None if it can."""
    if value is None:
        return f"empty {role}"
    if not isinstance(value, str):
        return f"{role} is not text but {type(value).__name__}"
    text = value.strip()
    if not text:
        return f"empty {role}"
    if _is_broken(value):
        return f"{role} is not text (NUL or bytes that are not UTF-8)"
    if text in MISSING_VALUES:
        return f"{role} is {text!r}, which is how programs write a missing value"
    if not any(character.isalnum() for character in text):
        return f"{role} has no letter or digit"
    return None


def _is_damaged(value: object) -> bool:
    return isinstance(value, str) and _DAMAGED_BYTE.search(value) is not None


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
