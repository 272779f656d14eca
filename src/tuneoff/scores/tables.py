"""Tables of scores. Their columns say which form they have.

- long: a row for each score, with a column of scores; without a column of systems, the file is one system;
- with a column of systems and none of scores: each column of numbers is a metric;
- wide: neither; each column of numbers is a system, and each row an item.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import PurePath

from tuneoff.data.nested import with_nested
from tuneoff.errors import UserError
from tuneoff.scores.numbers import name_of, score_of
from tuneoff.scores.score_columns import ITEM_NAMES, SCORE_NAMES, USUAL_NAMES, ScoreColumns
from tuneoff.scores.score_data import DEFAULT_METRIC, NO_SEED, ScoreRow
from tuneoff.scores.score_file import ScoreFile

PlacedRows = Iterator[tuple[str, Mapping[str, object]]]
MOST_ROWS = 1_000_000
"""Of a table whose columns of numbers must be found first: it is in memory as a whole."""
# A column of such a name says which metric its scores are.
_ALSO_METRICS = ("correct", "is_correct", "accuracy")


def read_table(file: ScoreFile, columns: ScoreColumns) -> Iterator[ScoreRow | str]:
    """The scores of a table in a file, and notes. Raises `UserError` with file and line."""
    system = file.system or PurePath(file.name).name.partition(".")[0]
    yield from rows_of_table(file.name, file.rows(), columns, system, file.seed)


def rows_of_table(
    name: str, rows: PlacedRows, columns: ScoreColumns, system: str, seed: str | None = None
) -> Iterator[ScoreRow | str]:
    """The scores of a table, and notes. `system` and `seed` are for a table without a column of them."""
    first = next(rows, None)
    if first is None:
        raise UserError(f"{name}: no row; a table of scores was expected")
    found = columns.find(name, list(first[1]), dict(first[1]))
    names = [one for part in USUAL_NAMES if (one := found.given(part)) is not None and one not in first[1]]
    every: PlacedRows = chain([first], rows)
    if names:
        every = ((place, with_nested(values, names)) for place, values in every)
    reader = _Reader(name, found, system, seed)
    if found.score is not None:
        yield from reader.long(every, found.score)
        return
    held = list(islice(every, MOST_ROWS + 1))
    if len(held) > MOST_ROWS:
        raise UserError(f"{held[-1][0]}: more than {MOST_ROWS:,} rows; write a row for each score, or fewer items")
    yield from reader.by_column(held)


@dataclass(frozen=True)
class _Reader:
    """Reads rows of one table."""

    name: str
    columns: ScoreColumns
    system: str
    seed: str | None

    def long(self, rows: PlacedRows, score: str) -> Iterator[ScoreRow | str]:
        """A row for each score, in the column `score`."""
        columns = self.columns
        if columns.item is None and columns.system is not None:
            raise UserError(
                f"{self.name}: no column of items, so the scores of one item cannot be compared; name it with "
                f"--item-column (usual names are {', '.join(ITEM_NAMES[:6])})"
            )
        plain = score.casefold()
        metric = score if plain not in SCORE_NAMES or plain in _ALSO_METRICS else DEFAULT_METRIC
        for number, (place, values) in enumerate(rows, 1):
            given = name_of(values.get(columns.metric)) if columns.metric is not None else ""
            yield self._row(
                number, place, values, self._system(place, values), given or metric, values.get(score), score
            )
        yield from self._note()

    def by_column(self, rows: list[tuple[str, Mapping[str, object]]]) -> Iterator[ScoreRow | str]:
        """A column for each system, or for each metric if there is a column of systems."""
        columns = self.columns
        known = {columns.given(part) for part in USUAL_NAMES}
        names = dict.fromkeys(name for _, values in rows for name in values if name not in known)
        if columns.systems and columns.system is None:
            names = {name: None for name in columns.systems if name in names}
        numeric = [name for name in names if self._is_numeric(name, rows)]
        if not numeric:
            raise UserError(
                f"{self.name}: no column of numbers, so there are no scores; name the column with --score-column"
            )
        if passed_over := [name for name in names if name not in numeric]:
            yield f"Columns that are not of numbers are not used: {', '.join(passed_over)}."
        for number, (place, values) in enumerate(rows, 1):
            for name in numeric:
                if columns.system is not None:
                    system, metric = self._system(place, values), name
                else:
                    system = name
                    metric = name_of(values.get(columns.metric)) if columns.metric is not None else DEFAULT_METRIC
                yield self._row(number, place, values, system, metric or DEFAULT_METRIC, values.get(name), name)
        yield from self._note()

    def _row(
        self,
        number: int,
        place: str,
        values: Mapping[str, object],
        system: str,
        metric: str,
        score: object,
        column: str,
    ) -> ScoreRow:
        columns = self.columns
        try:
            value = score_of(score)
        except ValueError as error:
            raise UserError(
                f"{place}: {str(score)[:60]!r} in the column {column!r} is not a score; a number was expected, or an "
                "empty cell"
            ) from error
        return ScoreRow(
            system=system,
            item=str(number) if columns.item is None else _required(values, columns.item, place),
            score=value,
            place=place,
            metric=metric,
            seed=self.seed if columns.seed is None else name_of(values.get(columns.seed)) or NO_SEED,
            group=None if columns.group is None else name_of(values.get(columns.group)) or None,
        )

    def _system(self, place: str, values: Mapping[str, object]) -> str:
        return self.system if self.columns.system is None else _required(values, self.columns.system, place)

    def _is_numeric(self, name: str, rows: list[tuple[str, Mapping[str, object]]]) -> bool:
        """Whether a column is of numbers. Raises `UserError` if most of its cells are numbers, and some are not."""
        numbers, others = 0, []
        for place, values in rows:
            try:
                numbers += score_of(values.get(name)) is not None
            except ValueError:
                others.append((place, values.get(name)))
        if numbers > len(others) > 0:
            place, value = others[0]
            raise UserError(
                f"{place}: {str(value)[:60]!r} in the column {name!r} is not a score, but most of its cells are; "
                "correct it, or name the columns to compare with --systems"
            )
        return numbers > 0 and not others

    def _note(self) -> Iterator[str]:
        if self.columns.item is None:
            yield f"Items are numbered by row, because no column names them: {self.name} (--item-column)."


def _required(values: Mapping[str, object], column: str, place: str) -> str:
    name = name_of(values.get(column))
    if not name:
        raise UserError(f"{place}: an empty cell in the column {column!r}; every score needs a value there")
    return name
