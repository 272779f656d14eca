import random

from hypothesis import given
from hypothesis import strategies as st

from tuneoff.engine.batching import epoch_batches, row_length, split_micro_batches, total_steps
from tuneoff.prompts import Encoded

rows_strategy = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9)), min_size=1, max_size=60).map(
    lambda sizes: [Encoded(str(index), (1,) * prompt, (2,) * target, 0) for index, (prompt, target) in enumerate(sizes)]
)


@given(rows_strategy, st.integers(1, 9), st.integers(0, 5), st.integers(0, 3))
def test_every_row_once_an_epoch_in_batches_of_the_size(
    rows: list[Encoded], batch_size: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(rows, batch_size, seed, epoch)
    assert sorted(row.id for batch in batches for row in batch) == sorted(row.id for row in rows)
    assert len(batches) == total_steps(len(rows), batch_size, 1.0, None)
    assert sorted(len(batch) for batch in batches)[1:] == [batch_size] * (len(batches) - 1)
    assert batches == epoch_batches(rows, batch_size, seed, epoch)


@given(rows_strategy, st.integers(1, 400), st.integers(0, 20), st.sampled_from([1, 4]))
def test_micro_batches_contain_every_row_once(rows: list[Encoded], tokens: int, overhead: int, multiple: int) -> None:
    parts = split_micro_batches(rows, tokens, overhead, multiple)
    assert sorted(row.id for part in parts for row in part) == sorted(row.id for row in rows)
    assert len(parts) % multiple == 0 or all(len(part) == 1 for part in parts)
    costs = [len(part) * (max(map(row_length, part)) + overhead) for part in parts]
    assert costs == sorted(costs, reverse=True)
    most = max(tokens if multiple == 1 else tokens * 5 // 4, max(map(row_length, rows)) + overhead)
    for part, cost in zip(parts, costs, strict=True):
        assert len(part) == 1 or cost <= most


def test_equal_rows_are_split_equally() -> None:
    rows = [Encoded(str(index), (1,) * 250, (2,) * 20, 0) for index in range(8)]
    # 540 tokens: the limit may be exceeded by a quarter
    assert [len(part) for part in split_micro_batches(rows, 512, 0, 4)] == [2] * 4
    assert [len(part) for part in split_micro_batches(rows, 400, 0, 4)] == [1] * 8


@given(rows_strategy, st.integers(1, 9), st.integers(0, 5), st.integers(0, 3))
def test_the_order_of_batches_never_changes(rows: list[Encoded], batch_size: int, seed: int, epoch: int) -> None:
    """Recorded losses depend on it: rows are shuffled, windows sorted by length, batches shuffled."""
    rng = random.Random(f"{seed}/{epoch}")
    order = list(rows)
    rng.shuffle(order)
    expected = []
    for start in range(0, len(order), 16 * batch_size):
        part = sorted(order[start : start + 16 * batch_size], key=row_length)
        expected += [part[first : first + batch_size] for first in range(0, len(part), batch_size)]
    rng.shuffle(expected)
    batches = epoch_batches(rows, batch_size, seed, epoch)
    assert list(batches) == expected
    assert list(batches[1:]) == expected[1:]


def test_order_differs_between_epochs_and_seeds() -> None:
    rows = [Encoded(str(index), (1,) * (index % 7 + 1), (2,), 0) for index in range(64)]
    orders = [str(epoch_batches(rows, 8, seed, epoch)) for seed in range(2) for epoch in range(2)]
    assert len(set(orders)) == 4


def test_batches_contain_rows_of_similar_length() -> None:
    rows = [Encoded(str(index), (1,) * (1 + index * 37 % 100), (2,), 0) for index in range(128)]
    padded = sum(len(batch) * max(map(row_length, batch)) for batch in epoch_batches(rows, 8, 0, 0))
    assert padded <= 1.15 * sum(map(row_length, rows))
