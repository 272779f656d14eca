"""Rows of CSV and TSV files with a header line. The separator and the way of quoting are found by trying."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tuneoff.data.byte_source import ByteSource
from tuneoff.data.source_table import SourceRow, UnreadableRow
from tuneoff.errors import UserError

# While it reads a field, the csv module takes some 16 bytes a character: a quote that never ends must not fill memory.
LARGEST_CSV_FIELD = 50_000_000  # characters
SEPARATORS = ",;\t|"
_SAMPLE_CHARACTERS = 1 << 18
# A line such as `sep=;` above the header defines the separator for Excel.
_SEPARATOR_LINE = re.compile(r'sep=([^\w\s"]|\t)\s*', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')


@dataclass(frozen=True)
class _Form:
    """How a file is written: lines above its header, separator, and the csv module's settings for quotes."""

    lines_above: int
    delimiter: str
    escapechar: str | None = None
    quoting: int = csv.QUOTE_MINIMAL

    def reader(self, lines: Iterable[str]) -> Any:
        """The csv module's reader of these lines."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            escapechar=self.escapechar,
            doublequote=self.escapechar is None,
            quoting=self.quoting,  # type: ignore[arg-type]
            strict=True,
        )


def open_csv(
    source: ByteSource, encoding: str, delimiter: str | None = None
) -> tuple[Callable[[], Iterator[SourceRow | UnreadableRow]], tuple[str, ...]]:
    """Find the form of a file. Returns what reads its rows, and cautions.

    The separator is taken from a line such as `sep=;` above the header, else from `delimiter`, else it is the comma,
    semicolon, tab or bar that the header has most of. Quotes are doubled, or have a backslash before them if the start
    of the file makes sense only so.
    """
    csv.field_size_limit(LARGEST_CSV_FIELD)
    with source.text(encoding, newline="") as stream:
        sample = stream.read(_SAMPLE_CHARACTERS)
    is_whole = len(sample) < _SAMPLE_CHARACTERS
    lines = list(io.StringIO(sample, newline=""))
    form = _find_form(lines if is_whole else lines[:-1], delimiter, is_whole)
    if form.quoting == csv.QUOTE_NONE:
        caution = f"{source.name}: quotation marks were read as part of the texts, because they do not enclose fields"
        return (lambda: _rows(source, encoding, form)), (caution,)
    return (lambda: _rows(source, encoding, form)), ()


def _rows(source: ByteSource, encoding: str, form: _Form) -> Iterator[SourceRow | UnreadableRow]:
    """The number of a row is the line on which it starts. Raises `UserError` with the line if quoting is broken."""
    with source.text(encoding, newline="") as stream:
        for _ in range(form.lines_above):
            stream.readline()
        reader = form.reader(stream)
        header: list[str] | None = None
        start = form.lines_above + 1
        try:
            for values in reader:
                number, start = start, form.lines_above + reader.line_num + 1
                if not values:
                    continue
                if header is None:
                    header = _column_names(source.name, values)
                elif len(values) != len(header):
                    yield UnreadableRow(number, f"number of fields is {len(values)}, but the header has {len(header)}")
                else:
                    yield SourceRow(number, dict(zip(header, values, strict=True)))
        except csv.Error as error:
            message = f"{source.name}, line {start}: the row that starts here is not CSV ({error}); check its quotes"
            raise UserError(message) from error


def _find_form(lines: list[str], delimiter: str | None, is_whole: bool) -> _Form:
    standard = _find_header(lines, delimiter)
    if _faults(standard, lines, is_whole) == 0:
        return standard
    others = [_Form(standard.lines_above, standard.delimiter, escapechar="\\")] if '\\"' in "".join(lines) else []
    if (
        standard.delimiter == "\t"
    ):  # other files without quoting cannot be distinguished from those with a forgotten quote
        others.append(_Form(standard.lines_above, "\t", quoting=csv.QUOTE_NONE))
    return next((form for form in others if _faults(form, lines, is_whole) == 0), standard)


def _find_header(lines: Iterable[str], delimiter: str | None) -> _Form:
    for lines_above, line in enumerate(lines):
        if not line.strip():
            continue
        if (separator_line := _SEPARATOR_LINE.fullmatch(line)) is not None:
            return _Form(lines_above + 1, separator_line[1])
        return _Form(lines_above, delimiter or max(SEPARATORS, key=_QUOTED.sub("", line).count))
    return _Form(0, delimiter or ",")


def _faults(form: _Form, lines: list[str], is_whole: bool) -> int:
    """The number of rows that this form does not explain. A row that is cut off by the end of a sample is none."""
    reader = form.reader(lines[form.lines_above :])
    header, faults = 0, 0
    try:
        for values in reader:
            if values:
                header = header or len(values)
                faults += len(values) != header
    except csv.Error:
        is_cut_off = not is_whole and reader.line_num >= len(lines) - form.lines_above
        faults += not is_cut_off or form.quoting == csv.QUOTE_NONE
    return faults


def _column_names(name: str, values: list[str]) -> list[str]:
    header = [value.strip() for value in values]
    repeated = next((column for index, column in enumerate(header) if column and column in header[:index]), None)
    if repeated is not None:
        raise UserError(f"{name}: the column {repeated!r} appears twice in the header; rename one of them")
    return header
