"""Items are grouped in their order."""

from tuneoff.verdict.grouping import grouped


def test_order_of_groups_and_of_items_is_that_of_the_input() -> None:
    assert list(grouped(["b1", "a2", "b3", "a1"], lambda name: name[0]).items()) == [
        ("b", ["b1", "b3"]),
        ("a", ["a2", "a1"]),
    ]


def test_no_items() -> None:
    assert grouped([], str) == {}
