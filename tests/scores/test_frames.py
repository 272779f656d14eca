"""Scores in memory: pandas, polars, lists of rows and columns as lists."""

from collections.abc import Mapping, Sequence

import pandas
import pytest

from tuneoff.errors import UserError
from tuneoff.scores import ScoreColumns, read_score_rows

Values = Mapping[str, Sequence[float]]
LONG = [{"model": name, "id": at, "score": 10 * at + place} for place, name in enumerate("ab") for at in range(3)]
EXPECTED = {
    ("a", 0): {"0": 0.0, "1": 10.0, "2": 20.0},
    ("b", 0): {"0": 1.0, "1": 11.0, "2": 21.0},
}


def columns_of(rows: list[dict[str, object]]) -> dict[str, list[object]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


class Polars:
    """A DataFrame with the interface of polars, which is not installed for tests."""

    def iter_rows(self, *, named: bool) -> list[dict[str, object]]:
        assert named
        return LONG

    def to_dict(self) -> None: ...


FORMS = {
    "list of rows": LONG,
    "columns": columns_of(LONG),
    "long DataFrame": pandas.DataFrame(LONG),
    "wide DataFrame": pandas.DataFrame(LONG).pivot(index="id", columns="model", values="score"),
    "index of two levels": pandas.DataFrame(LONG).set_index(["model", "id"]),
    "Polars": Polars(),
}


@pytest.mark.parametrize("rows", FORMS.values(), ids=FORMS.keys())
def test_every_form_gives_the_same_scores(rows: object) -> None:
    assert read_score_rows(rows).scores == {"score": EXPECTED}


def test_missing_cells_and_seeds_of_pandas() -> None:
    frame = pandas.DataFrame(
        {"model": ["a", "a", "b"], "id": [1, 1, 1], "seed": [0, 1, None], "score": [1.0, None, 3.0]}
    )
    data = read_score_rows(frame)
    assert data.scores == {"score": {("a", 0): {"1": 1.0}, ("a", 1): {"1": None}, ("b", 0): {"1": 3.0}}}
    assert data.unseeded == {"b"}


def test_columns_can_be_named() -> None:
    frame = pandas.DataFrame({"who": ["a"], "what": [1], "how_well": [0.5], "note": ["x"]})
    data = read_score_rows(frame, ScoreColumns(system="who", item="what", score="how_well"))
    assert data.scores == {"how_well": {("a", 0): {"1": 0.5}}}


REFUSED = {
    "text": ("scores.csv", "is not a list of rows"),
    "a number": (3, "has no rows"),
    "empty": ([], "the table: no row"),
    "columns of different lengths": ({"a": [1], "b": [1, 2]}, r"its columns differ in length \(a 1, b 2\)"),
    "a mapping of numbers": ({"a": 1}, "a mapping from column names to lists of values was expected"),
    "a list of numbers": ([1, 2], "the table, row 1: a int, but a mapping"),
    "a score that is text": ([{"model": "a", "id": 1, "score": "x"}], r"the table, row 1: 'x' in the column 'score'"),
}


@pytest.mark.parametrize(("rows", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_a_table_is_refused(rows: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_score_rows(rows)
