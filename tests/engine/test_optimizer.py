import itertools
import math
from typing import Literal

import pytest
import torch

from tuneoff.engine.optimizer import MasterAdamW, learning_rate_at


def test_updates_below_the_resolution_of_bf16_add_up() -> None:
    """1e-4 is a fortieth of the spacing of bf16 numbers at 1: without fp32 masters nothing would change."""
    weight = torch.nn.Parameter(torch.ones(4, 4, dtype=torch.bfloat16))
    optimizer = MasterAdamW([weight], 0.0)
    for _ in range(100):
        weight.grad = torch.ones_like(weight)
        optimizer.accumulate(0)
        optimizer.step(1e-4, 100.0)
    # AdamW moves by the learning rate when the gradient is constant: 1 - 100 * 1e-4, to bf16's spacing of 2^-8
    assert weight.detach().float().mean() == pytest.approx(0.99, abs=2**-9)


def test_first_step_is_the_adamw_of_the_paper() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, by hand: with bias correction the first step is lr * sign."""
    weight = torch.nn.Parameter(torch.tensor([[2.0, -3.0]]))
    optimizer = MasterAdamW([weight], weight_decay=0.1)
    weight.grad = torch.tensor([[0.5, -0.25]])
    norm = optimizer.step(0.01, max_grad_norm=10.0)
    assert norm == pytest.approx(math.hypot(0.5, 0.25))
    expected = torch.tensor([[2.0, -3.0]]) * (1 - 0.01 * 0.1) - 0.01 * torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(weight.detach(), expected, atol=1e-6, rtol=0)


def test_gradients_are_clipped_to_the_norm() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = MasterAdamW([weight], 0.0)
    weight.grad = torch.full((2, 2), 100.0)
    assert optimizer.step(0.0, max_grad_norm=1.0) == pytest.approx(200.0)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = MasterAdamW([weight], 0.0)
    weight.grad = torch.full((2, 2), math.nan)
    assert math.isnan(optimizer.step(0.1, 1.0))
    assert torch.equal(weight.detach(), torch.ones(2, 2))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_rate_warms_up_to_the_peak_and_never_exceeds_it(schedule: Literal["cosine", "linear", "constant"]) -> None:
    rates = [learning_rate_at(step, 100, 1.0, 0.1, schedule) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert max(rates) == pytest.approx(1.0)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert rates[-1] == (1.0 if schedule == "constant" else pytest.approx(0, abs=0.02))
    assert learning_rate_at(0, 1, 1.0, 0.0, schedule) == 1.0
