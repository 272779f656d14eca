"""Cells as scores and names."""

import math

import pytest

from tuneoff.scores.numbers import group_of, name_of, score_of


@pytest.mark.parametrize(
    ("cell", "score"),
    [
        ("0.5", 0.5),
        (" 1 ", 1.0),
        ("TRUE", 1.0),
        (False, 0.0),
        (3, 3.0),
        ("1e-2", 0.01),
        ("", None),
        ("NA", None),
        (math.nan, None),
    ],
)
def test_cells_that_are_scores(cell: object, score: float | None) -> None:
    assert score_of(cell) == score


@pytest.mark.parametrize("cell", ["good", "0,5", "5 %", "inf", math.inf, [1], {}, 10**400, "0x1"])
def test_cells_that_are_none(cell: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        score_of(cell)


def test_names() -> None:
    assert [name_of(cell) for cell in (1.0, 1, "1 ", 1.5, None, math.nan)] == ["1", "1", "1", "1.5", "", ""]
    assert name_of("caf\udce9") == "caf?"
    assert name_of("é") == "é"


def test_a_group_inside_an_object() -> None:
    assert group_of({"doc": {"title": 3}}, "doc.title") == "3"
    assert group_of({"doc": {}}, "doc.title") is None
    assert group_of({"g": "x"}, None) is None
