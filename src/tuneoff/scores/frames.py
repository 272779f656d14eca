"""Scores that are in memory: a DataFrame, a list of rows, or columns as lists."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuneoff.data.in_memory import iterate_rows, plain_value
from tuneoff.errors import UserError
from tuneoff.scores.score_columns import ScoreColumns
from tuneoff.scores.score_data import ScoreCollector, ScoreData, ScoreRow
from tuneoff.scores.tables import rows_of_table

_NAME = "the table"


def read_score_rows(rows: object, columns: ScoreColumns | None = None) -> ScoreData:
    """The scores of a table in memory, long or wide as in a file.

    `rows` is a pandas or polars `DataFrame`, a list of mappings, or a mapping from column name to values. Raises
    `UserError` with the number of the row.
    """
    columns = columns or ScoreColumns()
    collector = ScoreCollector(columns.systems)
    for row in rows_of_table(_NAME, _placed(rows), columns, "scores"):
        if isinstance(row, ScoreRow):
            collector.add(row)
        else:
            collector.notes.append(row)
    return collector.finish(())


def _placed(rows: object) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, row in enumerate(iterate_rows(_with_index(rows)), 1):
        if not isinstance(row, Mapping):
            raise UserError(
                f"{_NAME}, row {number}: a {type(row).__name__}, but a mapping of column names was expected"
            )
        yield f"{_NAME}, row {number}", {str(name): plain_value(value) for name, value in row.items()}


def _with_index(rows: object) -> object:
    """Rows of a mapping of columns; a DataFrame with its index as columns, unless that only numbers the rows."""
    if isinstance(rows, Mapping):
        return _rows_of_columns(rows)
    index = getattr(rows, "index", None)
    if hasattr(rows, "reset_index") and type(index).__name__ != "RangeIndex":
        frame: Any = rows
        return frame.reset_index()
    return rows


def _rows_of_columns(table: Mapping[Any, Any]) -> list[dict[str, object]]:
    if not table or not all(isinstance(values, Sequence) or hasattr(values, "tolist") for values in table.values()):
        raise UserError(f"{_NAME}: a mapping from column names to lists of values was expected")
    columns = {
        str(name): values.tolist() if hasattr(values, "tolist") else list(values) for name, values in table.items()
    }
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UserError(f"{_NAME}: its columns differ in length ({listed})")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
