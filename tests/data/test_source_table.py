"""Locations of rows, as messages quote them."""

from tuneoff.data.source_table import SourceTable


def test_the_location_of_a_row_names_a_line_or_a_row() -> None:
    assert SourceTable("a.csv", "line", iter([])).location(7) == "a.csv:7"
    assert SourceTable("owner/name test", "row", iter([])).location(7) == "owner/name test, row 7"
