"""Rows of the comparison without a run: outputs of outside systems, and sentences taken from the documents."""

import difflib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuneoff.data.byte_source import file_source
from tuneoff.data.encoding import decodes_as_utf8
from tuneoff.data.example import Example
from tuneoff.data.files import READERS, local_path, open_file
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError
from tuneoff.metrics import RougeDialect, lead, oracle_sentence, score
from tuneoff.results.run_record import Prediction

EXTRACTIVE_ROWS = ("LEAD-1", "LEAD-3", "oracle-1")

_SHOWN = 60  # characters of an id or key in a message


@dataclass(frozen=True)
class OutsideTexts:
    """What an outside system wrote: document id -> text. `cautions` are sentences about how the file was read."""

    texts: Mapping[str, str]
    cautions: tuple[str, ...] = ()


def read_outside(path: Path | str, ids: Collection[str], encoding: str | None = None) -> OutsideTexts:
    """The texts that an outside system wrote for the test documents `ids`, in the order of `ids`.

    The file is JSON Lines with `id` and `text` in each object, or CSV or Parquet with these columns; other keys are
    ignored, and an empty text is valid. `encoding` is that of a file that is not UTF-8; None finds it.

    Raises `UserError`, with file and line, for a row that cannot be read, a missing key, and an id that is not a test
    document or appears twice; and if test documents are missing.
    """
    file = local_path(str(path))
    if file.is_file():
        source = file_source(file)
        if source.suffix not in READERS:
            raise UserError(f"{path}: texts of another system need ids; {_form(ids)}")
        # The data may be in another encoding than what a program wrote.
        encoding = None if encoding is None or decodes_as_utf8(source) else encoding
    table = open_file(str(path), encoding)
    wanted = frozenset(ids)
    texts: dict[str, str] = {}
    places: dict[str, str] = {}
    for row in table.rows:
        where = table.location(row.number)
        if isinstance(row, UnreadableRow):
            raise UserError(f"{where}: cannot be read ({row.reason}); {_form(ids)}")
        identity = _identity(row, where)
        if identity not in wanted:
            hint = _hint(identity, ids)
            raise UserError(f"{where}: no test document has the id {_quoted(identity)}; {hint}")
        if identity in texts:
            first = places[identity]
            raise UserError(f"{where}: the id {_quoted(identity)} appears already at {first}; keep one of the two")
        texts[identity] = _text(row, where)
        places[identity] = where
    _check_complete(table, ids, texts)
    return OutsideTexts({identity: texts[identity] for identity in ids}, table.cautions)


def _form(ids: Collection[str]) -> str:
    """How to write a file of texts, with an id of the test data."""
    row = json.dumps({"id": next(iter(ids), "test-1"), "text": "..."}, ensure_ascii=False)
    return f"write a line for each test document to a file whose name ends in .jsonl: {row[:_SHOWN]}"


def outside_rows(texts: Mapping[str, str], examples: Iterable[Example], dialect: RougeDialect) -> list[Prediction]:
    """Score the texts of an outside system: one prediction per example, in order.

    `texts` holds the id of every example. Whether the system ended a text itself is unknown.
    """
    return [_row(example, texts[example.id], dialect) for example in examples]


def extractive_rows(examples: Iterable[Example], dialect: RougeDialect) -> dict[str, list[Prediction]]:
    """The rows of `EXTRACTIVE_ROWS`, scored as every model is, in the order of the examples."""
    rows: dict[str, list[Prediction]] = {name: [] for name in EXTRACTIVE_ROWS}
    for example in examples:
        texts = (
            lead(example.document, 1),
            lead(example.document, 3),
            oracle_sentence(example.document, example.references, dialect),
        )
        for name, text in zip(EXTRACTIVE_ROWS, texts, strict=True):
            rows[name].append(_row(example, text, dialect))
    return rows


def _row(example: Example, text: str, dialect: RougeDialect) -> Prediction:
    return Prediction(id=example.id, text=text, scores=score(text, example.document, example.references, dialect))


def _identity(row: SourceRow, where: str) -> str:
    value = _value(row, "id", where)
    if not isinstance(value, str | int | float):
        raise UserError(f"{where}: the id is {_kind(value)}; write the id of a test document as text")
    return str(value).strip()  # as the ids of the data are


def _text(row: SourceRow, where: str) -> str:
    value = _value(row, "text", where)
    if not isinstance(value, str):
        raise UserError(f'{where}: the text is {_kind(value)}; write it as text ("" for an empty output)')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: the text has an incomplete character (a lone surrogate); write it as UTF-8"
        ) from error
    return value


def _value(row: SourceRow, key: str, where: str) -> object:
    if key not in row.values:
        there = ", ".join(_quoted(name) for name in list(row.values)[:8]) or "none"
        raise UserError(f"{where}: the key {key!r} is missing; each line needs id and text (keys here: {there})")
    return row.values[key]


def _check_complete(table: SourceTable, ids: Collection[str], texts: Mapping[str, str]) -> None:
    missing = [identity for identity in ids if identity not in texts]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(
            f"{table.name}: {len(missing)} of {len(ids)} test documents {verb} missing, the first is "
            f'{_quoted(missing[0])}; add a line for each ("text": "" for an empty output)'
        )


def _hint(identity: str, ids: Collection[str]) -> str:
    close = difflib.get_close_matches(identity, ids, n=1) if len(identity) <= _SHOWN else []
    return f"did you mean {_quoted(close[0])}?" if close else "remove the line or correct its id"


def _quoted(text: str) -> str:
    """`text` with its control codes escaped, truncated to a readable length."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."


def _kind(value: object) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"
