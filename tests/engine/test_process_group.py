"""Two processes that train together have the losses of one, and notice when the other one is gone."""

import contextlib
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from support.training_world import World
from tuneoff import stopping
from tuneoff.engine.checkpoint import Checkpoints
from tuneoff.engine.process_group import ALONE, ProcessGroup, joined
from tuneoff.errors import RunFailure
from tuneoff.methods import build
from tuneoff.results.run_record import Curve


@pytest.fixture
def world(tiny_model: Callable[[str], Path], tmp_path: Path) -> World:
    return World(tiny_model("qwen2"), tmp_path)


@contextlib.contextmanager
def other_process(work: Callable[[], None]) -> Iterator[None]:
    """A process that does `work` meanwhile. One thread each: others would not survive the fork."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        yield
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        torch.set_num_threads(before)


def fit(world: World, name: str, group: ProcessGroup, **settings: object) -> tuple[Curve, dict[str, torch.Tensor]]:
    adapted = build(name, {}).adapt(world.load(), [], 0)
    curve = world.trainer(adapted, 1e-3, group=group, **settings).fit()
    return curve, {key: tensor.detach().clone() for key, tensor in adapted.state().items()}


def fit_together(world: World, name: str, **settings: object) -> tuple[Curve, dict[str, torch.Tensor]]:
    """By two processes."""
    meeting = str(world.scratch / "meeting")

    def help_to_train() -> None:
        world.checkpoints = Checkpoints(world.scratch, writes=False)
        with joined(1, 2, meeting) as group:
            fit(world, name, group, **settings)

    with other_process(help_to_train), joined(0, 2, meeting) as group:
        return fit(world, name, group, **settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("full", {}),
        ("lora", {}),
        pytest.param("soft_prompt", {}, marks=pytest.mark.slow),
        pytest.param("last_layers", {}, marks=pytest.mark.slow),
        ("lora", {"batch_size": 1, "max_steps": 3}),  # less rows than processes
        ("lora", {"micro_batch_tokens": 60}),
    ],
)
def test_losses_are_those_of_one_process(world: World, name: str, settings: dict[str, object]) -> None:
    alone, weights = fit(world, name, ALONE, epochs=2, **settings)
    together, found = fit_together(world, name, epochs=2, **settings)
    assert [point.tokens for point in together.train] == [point.tokens for point in alone.train]
    for one, other in zip(alone.train, together.train, strict=True):
        assert other.loss == pytest.approx(one.loss, abs=1e-5)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-3)
    losses = [point.loss for point in alone.validation]
    assert [point.loss for point in together.validation] == pytest.approx(losses, abs=1e-5)
    assert together.best_step == alone.best_step
    assert all(torch.allclose(found[key], tensor, atol=1e-4) for key, tensor in weights.items())
    assert [path.name for path in world.scratch.iterdir() if path.name != "meeting"] == []


def test_a_process_whose_other_one_is_gone_says_so(world: World) -> None:
    meeting = str(world.scratch / "meeting")

    def leave() -> None:
        with joined(1, 2, meeting):
            pass

    with other_process(leave), joined(0, 2, meeting) as group, pytest.raises(RunFailure, match="another process"):
        fit(world, "lora", group)


def test_a_process_that_is_asked_to_end_meanwhile_does_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = str(world.scratch / "meeting")

    def leave() -> None:
        with joined(1, 2, meeting) as group:
            group.sum(0)

    with other_process(leave), joined(0, 2, meeting) as group:
        group.sum(0)
        monkeypatch.setattr(stopping._Run, "asked", signal.SIGTERM)
        with pytest.raises(stopping.Stopped):
            group.sum(0)
    monkeypatch.undo()


def test_one_process_communicates_with_nobody() -> None:
    assert ALONE.leads
    assert list(ALONE.share(3)) == [0, 1, 2]
    assert ALONE.sum(1.5, 2) == [1.5, 2]
    tensor = torch.zeros(2, requires_grad=True)
    ALONE.sum_gradients([tensor])
    assert tensor.grad is None


def test_every_item_is_computed_once() -> None:
    shares = [ProcessGroup(rank, 3).share(7) for rank in range(3)]
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert [ProcessGroup(rank, 3).leads for rank in range(3)] == [True, False, False]


def test_a_gradient_that_no_process_has_stays_none(tmp_path: Path) -> None:
    def gradients(rank: int) -> list[torch.Tensor | None]:
        tensors = [torch.zeros(2, requires_grad=True) for _ in range(3)]
        tensors[0].grad = torch.full((2,), rank + 1.0)
        if rank == 1:
            tensors[1].grad = torch.ones(2)
        with joined(rank, 2, str(tmp_path / "meeting")) as group:
            group.sum_gradients(tensors)
        return [tensor.grad for tensor in tensors]

    with other_process(lambda: print(gradients(1))):
        found = gradients(0)
    assert [None if each is None else each.tolist() for each in found] == [[3, 3], [1, 1], None]
