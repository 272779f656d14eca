"""Concurrent micro-batches give the same results in the same order, whatever the timing of the threads."""

import random
import threading
import time

import pytest
import torch

from tuneoff.engine import parallel
from tuneoff.engine.parallel import OrderedGradients, ParallelWorkers, current_micro_batch

CPU = torch.device("cpu")


@pytest.fixture
def workers(request):
    before = torch.get_num_threads()
    torch.set_num_threads(getattr(request, "param", 3))
    yield ParallelWorkers(CPU, torch.float32)
    torch.set_num_threads(before)


def test_results_keep_the_order_and_torch_its_threads(workers: ParallelWorkers) -> None:
    threads = torch.get_num_threads()
    order = random.Random(0)

    def work(number):
        time.sleep(order.random() / 200)
        return number, current_micro_batch(), torch.get_num_threads()

    assert workers.map(work, range(9)) == [(number, number, 1) for number in range(9)]
    assert torch.get_num_threads() == threads
    assert current_micro_batch() is None


def test_several_threads_work_unless_sequential(workers: ParallelWorkers) -> None:
    def work(_):
        time.sleep(0.02)
        return threading.current_thread()

    assert len(set(workers.map(work, range(6)))) > 1
    assert set(workers.map(work, range(6), sequential=True)) == {threading.current_thread()}


@pytest.mark.parametrize("workers", [1], indirect=True)
def test_one_thread_is_the_caller(workers: ParallelWorkers) -> None:
    assert workers.count == 1
    assert workers.map(lambda _: threading.current_thread(), range(2)) == [threading.current_thread()] * 2


def test_other_devices_than_a_cpu_have_one_worker() -> None:
    assert ParallelWorkers(torch.device("meta"), torch.float32).count == 1


@pytest.mark.usefixtures("several_threads")
@pytest.mark.parametrize(
    ("units", "dtype", "count"), [(True, torch.bfloat16, 1), (True, torch.float32, 3), (False, torch.bfloat16, 3)]
)
def test_with_matrix_units_all_threads_share_each_product_in_bf16(
    monkeypatch: pytest.MonkeyPatch, units: bool, dtype: torch.dtype, count: int
) -> None:
    monkeypatch.setattr(parallel, "has_matrix_units", lambda: units)
    workers = ParallelWorkers(CPU, dtype)
    assert workers.count == count
    assert workers.map(lambda _: torch.get_num_threads(), range(4)) == [3 // count] * 4


def test_the_first_error_is_raised_and_torch_keeps_its_threads(workers: ParallelWorkers) -> None:
    threads = torch.get_num_threads()

    def work(number):
        if number in (2, 4):
            raise ValueError(f"item {number}")
        return number

    with pytest.raises(ValueError, match="item 2"):
        workers.map(work, range(6))
    assert torch.get_num_threads() == threads


def test_after_an_error_no_further_item_starts(workers: ParallelWorkers) -> None:
    started = []

    def work(number):
        started.append(number)
        time.sleep(0.02)
        if number == 0:
            raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        workers.map(work, range(100))
    assert len(started) < 20


@pytest.mark.parametrize("seed", range(5))
def test_gradients_are_accumulated_in_the_order_of_the_micro_batches(workers: ParallelWorkers, seed: int) -> None:
    """In fp32 1e8 + 1 - 1e8 is 0, but 1e8 - 1e8 + 1 is 1: the sum depends on the order."""
    weight = torch.nn.Parameter(torch.zeros(1))
    order = random.Random(seed)
    accumulated: list[int] = []
    ordered = OrderedGradients([weight], accumulated.append)
    for gradients in ([1e8, 1.0, -1e8], [1e8, -1e8, 1.0]):
        ordered.begin_batch()
        delays = [order.random() / 50 for _ in gradients]

        def work(item, delays=delays):
            number, gradient = item
            with ordered.micro_batch():
                time.sleep(delays[number])
                (weight * gradient).sum().backward()

        workers.map(work, list(enumerate(gradients)))
        expected = torch.zeros(1)
        for gradient in gradients:
            expected += gradient
        assert weight.grad is not None
        assert torch.equal(weight.grad, expected)
        weight.grad = None
    assert accumulated == [0] * 6


def test_no_deadlock_if_a_micro_batch_fails_or_does_not_reach_a_tensor(workers: ParallelWorkers) -> None:
    weight, other = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    ordered = OrderedGradients([weight, other], lambda index: None)
    ordered.begin_batch()

    def work(number):
        with ordered.micro_batch():
            time.sleep(0.01 * (2 - number))
            if number == 0:
                raise ValueError("no gradient")
            (other if number == 1 else weight).sum().backward()

    with pytest.raises(ValueError, match="no gradient"):
        workers.map(work, range(3))
    assert weight.grad == other.grad == 1


def test_close_removes_all_hooks() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    accumulated: list[int] = []
    ordered = OrderedGradients([weight], accumulated.append)
    ordered.close()
    weight.sum().backward()
    assert not accumulated
    assert not weight._backward_hooks
    assert not weight._post_accumulate_grad_hooks
