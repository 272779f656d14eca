"""Columns inside objects: `doc.body` is `body` of the object in the column `doc`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tuneoff.data.source_table import SourceRow, UnreadableRow

_DEEPEST = 4  # objects inside one another


def with_nested(values: Mapping[str, object], names: Iterable[str]) -> Mapping[str, object]:
    """The row with a column for each of the `names` that leads into an object. A column of that name is kept."""
    found = {name: value for name in names if name not in values and (value := _inside(values, name)) is not None}
    return {**values, **found} if found else values


def nested_columns(
    rows: Iterable[SourceRow | UnreadableRow], names: Sequence[str]
) -> Iterator[SourceRow | UnreadableRow]:
    """The rows with the columns that `names` lead to."""
    for row in rows:
        yield SourceRow(row.number, with_nested(row.values, names), row.note) if isinstance(row, SourceRow) else row


def nested_names(values: Mapping[str, object], depth: int = _DEEPEST) -> Iterator[str]:
    """The names of all values inside objects of a row."""
    for name, value in values.items():
        if isinstance(value, Mapping) and depth:
            inner = {f"{name}.{key}": found for key, found in value.items()}
            yield from (key for key, found in inner.items() if not isinstance(found, Mapping))
            yield from nested_names(inner, depth - 1)


def _inside(values: Mapping[str, object], name: str) -> object:
    found: object = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
