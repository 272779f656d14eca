"""Groups of documents."""

from tuneoff.data import group_id


def test_the_group_ignores_white_space_only() -> None:
    assert group_id("a  b\n") == group_id(" a b") != group_id("a B")
