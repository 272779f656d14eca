"""Prompts that are read once give what prompts give that are read at every step."""

import contextlib
import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tuneoff import models
from tuneoff.engine import prompt_cache, trainer
from tuneoff.engine.checkpoint import Checkpoints
from tuneoff.engine.loss import collate, target_loss
from tuneoff.engine.prefill import read_shared
from tuneoff.engine.prompt_cache import HeldPrompts, hold
from tuneoff.methods import build
from tuneoff.prompts import Encoded
from tuneoff.results.run_record import Curve
from tuneoff.spec import ModelSpec, TrainSpec

pytestmark = pytest.mark.usefixtures("several_threads")

CPU = torch.device("cpu")
PLENTY = 10**9


def load(folder: Path) -> models.BaseModel:
    return models.load_model(ModelSpec(name=str(folder)), CPU, torch.float32)


def adapt(base: models.BaseModel, name: str = "soft_prompt_after"):
    return build(name, {"num_virtual_tokens": 5} if "prompt" in name else {}).adapt(base, [], 0)


def rows(*, shared: int = 0) -> list[Encoded]:
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 50, (count,), generator=generator).tolist())

    first = draw(shared)
    lengths = ((9, 3), (2, 6), (27, 1), (18, 4), (11, 5), (14, 2))
    return [Encoded(str(place), first + draw(text), draw(answer), 0) for place, (text, answer) in enumerate(lengths)]


@pytest.mark.parametrize("shared", [0, 12])
@pytest.mark.parametrize("architecture", ["gpt_neo", "gpt2", "llama", "qwen2"])
def test_loss_and_gradient_are_those_of_whole_rows(
    tiny_model: Callable[[str], Path], architecture: str, shared: int
) -> None:
    adapted, some = adapt(load(tiny_model(architecture))), rows(shared=shared)
    expected = target_loss(adapted, collate(some, 0, CPU))
    [wanted] = torch.autograd.grad(expected, [adapted.prompt_VD])
    prompts = HeldPrompts(adapted, some, some, 0, CPU, PLENTY)
    for kept in (0, len(some)):  # read now, then from memory
        assert prompts.kept == kept
        found = prompts.loss(some)
        [gradient] = torch.autograd.grad(found, [adapted.prompt_VD])
        # fp32 products of other shapes are summed in another order: a few units in the sixth digit
        torch.testing.assert_close(found, expected, atol=0, rtol=1e-5)
        torch.testing.assert_close(gradient, wanted, atol=1e-4, rtol=1e-3)


@dataclass
class _Counter:
    tokens: int = 0


class _Meter:
    @contextlib.contextmanager
    def phase(self, name: str):
        yield _Counter()

    def elapsed(self) -> float:
        return 0.0


def fit(adapted, scratch: Path) -> Curve:
    return trainer.Training(
        adapted,
        rows(),
        rows(),
        TrainSpec(batch_size=2, epochs=3, micro_batch_tokens=60),
        learning_rate=1e-2,
        weight_decay=0.0,
        seed=0,
        pad_id=0,
        device=CPU,
        checkpoints=Checkpoints(scratch),
        meter=_Meter(),
        emit=lambda event: None,
    ).fit()


def test_a_run_with_them_is_the_run_without(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = fit(adapt(load(tiny_model("qwen2"))), tmp_path)
    monkeypatch.setattr(trainer, "hold", lambda *args: None)
    always = fit(adapt(load(tiny_model("qwen2"))), tmp_path)
    for mine, other in zip(once.train, always.train, strict=True):
        assert mine.loss == pytest.approx(other.loss, rel=1e-4)  # as above, and nine steps on it
    assert once.best_validation_loss == pytest.approx(always.best_validation_loss, rel=1e-4)


def test_memory_decides_about_time_and_about_no_bit(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing, some or all of it kept: the same losses and the same weights."""
    results = []
    for free in (0, 60_000, PLENTY):
        monkeypatch.setattr(prompt_cache, "_free", lambda device, free=free: free)
        adapted = adapt(load(tiny_model("qwen2")))
        results.append((fit(adapted, tmp_path), adapted.prompt_VD.detach()))
    for curve, prompt_VD in results[1:]:
        assert curve == results[0][0]
        assert torch.equal(prompt_VD, results[0][1])


def test_each_prompt_is_read_once_and_what_finds_no_room_again(tiny_model: Callable[[str], Path]) -> None:
    base = load(tiny_model("llama"))
    adapted, some = adapt(base), rows()
    seen: list[int] = []
    base.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].numel()) if "input_ids" in kwargs else None,
        with_kwargs=True,
    )
    prompts = HeldPrompts(adapted, some, some[:4], 0, CPU, PLENTY)
    for _ in range(3):
        with torch.inference_mode():
            prompts.loss(some)
    assert sorted(seen) == sorted([len(row.prompt) for row in some] + 2 * [len(row.prompt) for row in some[4:]])
    assert prompts.kept == 4
    # A token: key and value, 2 layers, 2 heads of 8, 4 bytes each.
    tight = HeldPrompts(adapted, some, some, 0, CPU, 2 * 2 * 2 * 8 * 4 * (9 + 2 + 18))
    tight.loss(some)
    assert tight.kept == 3  # the third prompt is longer than what was left for it


def test_only_prompts_that_do_not_change_are_held(tiny_model: Callable[[str], Path]) -> None:
    for name in ("soft_prompt", "prefix_tuning", "lora", "zero_shot"):
        assert hold(adapt(load(tiny_model("llama")), name), [(rows(), False)], 0, CPU) is None
    assert hold(adapt(load(tiny_model("gemma3"))), [(rows(), False)], 0, CPU) is None  # windows forget keys
    assert hold(adapt(load(tiny_model("llama"))), [(rows(), False)], 0, CPU) is not None
    tuned = adapt(load(tiny_model("llama")))
    next(tuned.model.parameters()).requires_grad_(True)
    assert hold(tuned, [(rows(), False)], 0, CPU) is None


class _Lazy(Sequence[Encoded]):
    """Rows that are put together when they are asked for, as those of a run are; knows how many live at once."""

    def __init__(self, count: int) -> None:
        self._count, self.alive, self.most = count, 0, 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at):
        if not 0 <= at < self._count:
            raise IndexError(at)
        row = Encoded(str(at), tuple(range(1000 * at, 1000 * at + 300)), (1,), 0)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(row, self._gone)
        return row

    def _gone(self) -> None:
        self.alive -= 1


def test_rows_are_not_held_to_see_what_they_share(tiny_model: Callable[[str], Path]) -> None:
    """A million rows have no room in memory; what is kept of each before it is read is a number."""
    adapted, some = adapt(load(tiny_model("llama"))), _Lazy(400)
    hold(adapted, [(some, True)], 0, CPU)
    tracemalloc.start()
    try:
        prompts = hold(adapted, [(some, True)], 0, CPU)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert prompts is not None
    assert some.most <= 3
    assert held_bytes < 200 * len(some)  # ids of a row take above 10 kB


def test_reading_what_rows_share_holds_none(tiny_model: Callable[[str], Path]) -> None:
    some = _Lazy(50)
    assert read_shared(adapt(load(tiny_model("llama"))), some, CPU, worth=8) is None
    assert some.most <= 3
