"""The complete table of scores: which seeds and documents remain, and how groups are numbered."""

import numpy as np
import pytest

from tuneoff.verdict.scores import Scores, group_indices, tabulate


def scores_of(runs: dict[tuple[str, int], dict[str, float | None]], **other: object) -> Scores:
    methods = tuple(dict.fromkeys(method for method, _ in runs))
    return Scores(methods=methods, scores=runs, **other)  # type: ignore[arg-type]


def test_only_common_seeds_and_documents_remain() -> None:
    table = tabulate(
        scores_of(
            {
                ("lora", 0): {"a": 1.0, "b": 2.0, "c": 3.0},
                ("lora", 1): {"a": 4.0, "b": 5.0, "c": 6.0},
                ("full", 1): {"a": 7.0, "b": None, "c": 9.0},
                ("full", 2): {"a": 1.0, "b": 1.0, "c": 1.0},
            }
        )
    )
    assert (table.methods, table.seeds, table.documents) == (("lora", "full"), (1,), ("a", "c"))
    assert table.values.tolist() == [[[4.0, 6.0]], [[7.0, 9.0]]]
    assert table.notes == (
        "Seeds 0 and 2 are excluded for all methods: lora and full did not finish with all of them.",
        "1 of 3 test documents are excluded: not every run has a score for them.",
    )


def test_the_only_run_of_a_fixed_method_counts_for_every_seed() -> None:
    runs: dict[tuple[str, int], dict[str, float | None]] = {
        ("zero_shot", 0): {"a": 1.0, "b": 2.0},
        ("lora", 3): {"a": 3.0, "b": 4.0},
        ("lora", 4): {"a": 5.0, "b": 6.0},
    }
    table = tabulate(scores_of(runs, deterministic=frozenset({"zero_shot"})))
    assert table.seeds == (3, 4)
    assert table.values[0].tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert table.varies.tolist() == [False, True]


def test_methods_without_a_common_seed_cannot_be_compared() -> None:
    table = tabulate(scores_of({("lora", 0): {"a": 1.0}, ("full", 1): {"a": 2.0}}))
    assert table.methods == ()
    assert "The trained methods have no seed in common, so they cannot be compared." in table.notes


def test_a_method_without_scores_is_named() -> None:
    table = tabulate(scores_of({("lora", 0): {"a": 1.0}, ("soft_prompt", 0): {"a": None}}))
    assert (table.methods, table.left_out) == (("lora",), ("soft prompt",))


def test_a_document_without_a_group_is_its_own_group() -> None:
    runs: dict[tuple[str, int], dict[str, float | None]] = {("lora", 0): dict.fromkeys("abcd", 1.0)}
    # "b" is also the name of a group, which document b does not belong to.
    table = tabulate(scores_of(runs, groups={"a": "b", "d": "b"}))
    assert table.group_of.tolist() == [0, 1, 2, 0]


def test_scores_that_are_not_finite_are_missing() -> None:
    table = tabulate(scores_of({("lora", 0): {"a": float("nan"), "b": 2.0}}))
    assert table.documents == ("b",)


def test_a_duplicate_method_is_rejected() -> None:
    with pytest.raises(ValueError, match="duplicate method"):
        tabulate(Scores(methods=("lora", "lora"), scores={}))


def test_group_indices_follow_the_order_of_names() -> None:
    found = group_indices(["d1", "d2", "d3", "d4"], {"d1": "z", "d2": "a", "d4": "z"})
    assert found.tolist() == [2, 0, 1, 2]
    assert found.dtype == np.intp
