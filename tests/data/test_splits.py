"""Choices of groups: never of pairs, nested, seeded, and the same on every machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneoff.data import Example, group_id, take_fraction
from tuneoff.data.splits import fold_of, group_rank, hold_out, limit_documents
from tuneoff.errors import UserError


def examples_of(documents: list[int]) -> list[Example]:
    return [
        Example(f"e{at}", f"document {which}", ("s",), group_id(f"document {which}"))
        for at, which in enumerate(documents)
    ]


many = st.lists(st.integers(0, 40), min_size=1, max_size=80).map(examples_of)
seeds = st.integers(0, 5)


def ids(examples: object) -> list[str]:
    return [example.id for example in examples]  # type: ignore[attr-defined]


@given(many, st.floats(0.001, 1), st.floats(0.001, 1), seeds)
def test_a_smaller_fraction_lies_inside_a_larger_one(
    examples: list[Example], one: float, other: float, seed: int
) -> None:
    small, large = sorted((one, other))
    inner, outer = take_fraction(examples, small, seed), take_fraction(examples, large, seed)
    assert inner
    assert set(ids(inner)) <= set(ids(outer))
    chosen = {example.group for example in inner}
    assert list(inner) == [example for example in examples if example.group in chosen]


def test_one_percent_lies_inside_ten_and_both_have_their_size() -> None:
    examples = examples_of([*range(1000), *range(1000)])
    one, ten = take_fraction(examples, 0.01, 3), take_fraction(examples, 0.1, 3)
    assert (len(one), len(ten)) == (20, 200)
    assert set(ids(one)) < set(ids(ten))
    assert ids(one) != ids(take_fraction(examples, 0.01, 4))
    assert take_fraction(examples, 1.0, 3) == tuple(examples)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_impossible_fractions(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        take_fraction(examples_of([1]), fraction, 0)


@given(many, st.integers(1, 50), st.integers(1, 50), seeds)
def test_limits_are_nested_and_count_the_rest(examples: list[Example], one: int, other: int, seed: int) -> None:
    small, large = sorted((one, other))
    found, inner_out = limit_documents(iter(examples), small, seed)
    inner = list(found)
    found, outer_out = limit_documents(iter(examples), large, seed)
    outer = list(found)
    groups = {example.group for example in examples}
    assert len({example.group for example in inner}) == min(small, len(groups))
    assert set(ids(inner)) <= set(ids(outer))
    assert len(inner) + inner_out == len(outer) + outer_out == len(examples)
    chosen = {example.group for example in inner}
    assert inner == [example for example in examples if example.group in chosen]


@given(many, st.integers(1, 50), seeds)
def test_a_limit_keeps_the_lowest_ranks_whatever_the_order_of_rows(
    examples: list[Example], limit: int, seed: int
) -> None:
    order = sorted({example.group for example in examples}, key=lambda group: group_rank(group, seed, "cap"))
    for rows in (examples, examples[::-1]):
        kept, _ = limit_documents(iter(rows), limit, seed)
        assert {example.group for example in kept} == set(order[:limit])


def test_no_limit_keeps_everything() -> None:
    examples = examples_of([1, 2, 1])
    kept, over_limit = limit_documents(iter(examples), None, 0)
    assert (list(kept), over_limit) == (examples, 0)


@given(many, st.floats(0.01, 0.4), st.floats(0.01, 0.4), seeds)
def test_held_out_splits_share_no_group_and_lose_nothing(
    examples: list[Example], first: float, second: float, seed: int
) -> None:
    total = len({example.group for example in examples})
    if sum(max(1, round(fraction * total)) for fraction in (first, second)) >= total:
        with pytest.raises(UserError, match="too few"):
            hold_out(examples, {"validation": first, "test": second}, seed, "x")
        return
    parts = hold_out(examples, {"validation": first, "test": second}, seed, "x")
    groups = {split: {example.group for example in part} for split, part in parts.items()}
    assert sum(map(len, groups.values())) == total
    assert len(groups["validation"]) == max(1, round(first * total))
    assert len(groups["test"]) == max(1, round(second * total))
    assert groups["train"]
    assert sorted(ids([*parts["train"], *parts["validation"], *parts["test"]])) == sorted(ids(examples))


def test_too_few_documents_names_what_is_missing() -> None:
    with pytest.raises(
        UserError, match=r"a.csv: the document of all its 3 rows is '.*', .* 1 for test; .* --test-file"
    ):
        hold_out(examples_of([1, 1, 1]), {"test": 0.1}, 0, "a.csv")


def test_order_depends_on_seed_and_purpose_only() -> None:
    # A literal value, because a changed hash would change every split ever made.
    assert group_rank("0123456789abcdef", 0, "split") >> 224 == 0x76F50227
    assert len({group_rank("a", seed, purpose) for seed in range(3) for purpose in ("split", "cap", "fraction")}) == 9


@given(many, st.integers(2, 6), st.floats(0.01, 0.4), seeds)
def test_folds_test_every_document_once_and_train_on_none_that_they_test(
    examples: list[Example], folds: int, validation: float, seed: int
) -> None:
    total = len({example.group for example in examples})
    if total < folds:
        with pytest.raises(UserError, match=f"x: it has {total} different documents?, too few for {folds} folds"):
            fold_of(examples, folds, 1, validation, seed, "x")
        return
    if total - -(-total // folds) < 2:
        return  # nothing would be left to train on, which `hold_out` refuses
    tested: list[str] = []
    sizes = []
    for fold in range(1, folds + 1):
        parts = fold_of(examples, folds, fold, validation, seed, "x")
        groups = [{example.group for example in part} for part in parts.values()]
        assert all(groups)
        assert sum(map(len, groups)) == len(set().union(*groups)) == total
        assert sorted(one for part in parts.values() for one in ids(part)) == sorted(ids(examples))
        tested += ids(parts["test"])
        sizes.append(len({example.group for example in parts["test"]}))
    assert sorted(tested) == sorted(ids(examples))
    assert max(sizes) - min(sizes) <= 1
