"""Columns of a table, given or found."""

import pytest

from tuneoff.errors import UserError
from tuneoff.scores import ScoreColumns


def test_given_names_take_precedence_over_usual_ones() -> None:
    found = ScoreColumns(system="method").find("t", ["model", "method", "id", "Score"], {})
    assert found == ScoreColumns(system="method", item="id", score="Score")


def test_a_given_name_may_differ_in_case_or_lead_into_an_object() -> None:
    assert ScoreColumns(item="ID").find("t", ["id"], {}).item == "id"
    assert ScoreColumns(group="doc.title").find("t", ["doc"], {"doc": {"title": 1}}).group == "doc.title"
    with pytest.raises(UserError, match=r"t: --group-column doc\.name: no such column; known are doc"):
        ScoreColumns(group="doc.name").find("t", ["doc"], {"doc": {"title": 1}})
