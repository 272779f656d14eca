"""The training loop is deterministic, restores the best weights and reports divergence."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from support.tiny_bases import load_tiny
from support.token_rows import CPU, VirtualTokens, random_rows, random_virtual_tokens
from support.training_world import World
from tiny import ARCHITECTURES
from tuneoff.engine.loss import collate, summed_cross_entropy, target_loss
from tuneoff.engine.trainer import Diverged, validation_loss
from tuneoff.methods import METHODS, build
from tuneoff.results.events import StepDone, Validated

pytestmark = pytest.mark.usefixtures("several_threads")

TRAINED = [name for name, method in METHODS.items() if method.trains]


@pytest.fixture
def world(tiny_model, tmp_path):
    return World(tiny_model("qwen2"), tmp_path)


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_same_bits(world: World, name: str) -> None:
    results = []
    for _ in range(2):
        adapted, curve = world.fit(name, max_steps=2)
        results.append((curve, {key: tensor.detach().clone() for key, tensor in adapted.state().items()}))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(results[0][1][key], tensor) for key, tensor in results[1][1].items())
    _, other = world.fit(name, max_steps=2, seed=1)
    assert [point.loss for point in other.train] != [point.loss for point in results[0][0].train]


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_decreases(world: World, name: str) -> None:
    low, high = METHODS[name].search["learning_rate"]
    adapted, curve = world.fit(name, rate=(low * high) ** 0.5, epochs=2)
    untouched = build("zero_shot", {}).adapt(world.load(), [], 0)
    assert curve.best_validation_loss < world.loss(untouched)
    assert world.loss(adapted) == pytest.approx(curve.best_validation_loss, rel=1e-6)


def test_restores_the_best_weights_and_leaves_no_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With these validation losses the second of four is the best, whatever the weights are."""
    from tuneoff.engine import trainer

    losses, seen = iter([3.0, 2.0, 2.5, 4.0]), []
    adapted = build("full", {}).adapt(world.load(), [], 0)

    def scripted(*args, **kwargs):
        seen.append({name: tensor.detach().clone() for name, tensor in adapted.state().items()})
        return next(losses)

    monkeypatch.setattr(trainer, "validation_loss", scripted)
    curve = world.fit_adapted(adapted, 1e-2, epochs=4)
    assert (curve.best_validation_loss, curve.best_step) == (2.0, 10)
    assert all(torch.equal(tensor, seen[1][name]) for name, tensor in adapted.state().items())
    assert not all(torch.equal(tensor, seen[3][name]) for name, tensor in adapted.state().items())
    assert not list(world.scratch.iterdir())


def test_patience_stops_early(world: World) -> None:
    _, curve = world.fit(
        "full", rate=0.3, epochs=20, evaluations_per_epoch=2, schedule="constant", warmup=0.0, patience=2
    )
    assert curve.stopped_early
    assert len(curve.train) < 100
    after_best = [point for point in curve.validation if point.step > curve.best_step]
    assert len(after_best) == 2


def test_evaluates_at_the_configured_steps(world: World) -> None:
    _, curve = world.fit(epochs=2, evaluations_per_epoch=2, eval_steps=4)
    # five steps per epoch: the middle (2, rounded) and the end of each epoch, and every fourth step
    assert [point.step for point in curve.validation] == [2, 4, 5, 8, 10]
    assert [event.step for event in world.events if isinstance(event, Validated)] == [2, 4, 5, 8, 10]
    assert [event.step for event in world.events if isinstance(event, StepDone)] == list(range(1, 11))


def test_max_steps_bounds_the_run(world: World) -> None:
    _, curve = world.fit(epochs=3, max_steps=7)
    assert len(curve.train) == 7
    assert curve.validation[-1].step == 7


def test_micro_batches_do_not_change_the_losses(world: World) -> None:
    whole = world.fit(epochs=1, micro_batch_tokens=100_000)[1]
    split = world.fit(epochs=1, micro_batch_tokens=150)[1]
    for one, other in zip(whole.train, split.train, strict=True):
        # fp32 sums in another order; the difference grows over five steps
        assert other.loss == pytest.approx(one.loss, rel=1e-4)
        assert other.tokens == one.tokens


def test_a_loss_that_is_not_finite_ends_the_run(world: World) -> None:
    adapted = build("full", {}).adapt(world.load(), [], 0)
    with torch.no_grad():
        next(iter(adapted.state().values())).fill_(float("nan"))
    with pytest.raises(Diverged, match="not finite at step 1") as caught:
        world.fit_adapted(adapted, 1e-3)
    assert caught.value.curve.train == ()
    assert not list(world.scratch.iterdir())


def test_divergence_keeps_the_last_good_weights(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = build("full", {}).adapt(world.load(), [], 0)
    from tuneoff.engine import gradients

    calls = []

    def poisoned(logits, targets):
        calls.append(targets)
        loss = summed_cross_entropy(logits, targets)
        return loss * float("nan") if torch.is_grad_enabled() and len(calls) > 25 else loss  # in the second epoch

    monkeypatch.setattr(gradients, "summed_cross_entropy", poisoned)
    with pytest.raises(Diverged) as caught:
        world.fit_adapted(adapted, 1e-3, epochs=5)
    monkeypatch.undo()
    curve = caught.value.curve
    assert curve.best_step is not None
    assert world.loss(adapted) == pytest.approx(curve.best_validation_loss, rel=1e-6)


def test_validations_for_pruning_change_nothing_else(world: World) -> None:
    plain = world.fit("lora", epochs=2, patience=1)[1]
    checked = world.fit("lora", epochs=2, patience=1, prune_above=((3, None), (5, None), (7, 1e9)))[1]
    assert checked.train == plain.train
    assert [point.step for point in plain.validation] == [5, 10]
    assert [point.step for point in checked.validation] == [3, 5, 7, 10]
    assert checked.model_copy(update={"validation": plain.validation}) == plain


def test_a_trial_above_its_limit_is_pruned(world: World) -> None:
    plain = world.fit("lora", epochs=2, prune_above=((3, None), (7, None)))[1]
    at = {point.step: point.loss for point in plain.validation}
    assert (
        world.fit("lora", epochs=2, prune_above=((3, at[3]), (7, at[7])))[1].cut_at is None
    )  # an equal loss is not above the limit
    pruned = world.fit("lora", epochs=2, prune_above=((3, at[3]), (7, at[7] - 1e-6)))[1]
    assert pruned.cut_at == 7
    assert pruned.train == plain.train[:7]
    assert not pruned.stopped_early
    assert not list(world.scratch.iterdir())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("where", [None, "before", "after"])
@pytest.mark.parametrize("shared", [0, 80])
def test_validation_loss_is_the_mean_over_target_tokens(
    tiny_model: Callable[[str], Path], architecture: str, where: str | None, shared: int
) -> None:
    """Also if the prompts share a prefix, which is then read once."""
    model = load_tiny(tiny_model(architecture)).model
    adapted = VirtualTokens(model, **({where: random_virtual_tokens(model, 5)} if where else {}))
    rows = random_rows(shared=shared)
    with torch.inference_mode():
        expected = sum(float(target_loss(adapted, collate([row], 0, CPU))) for row in rows) / sum(
            len(row.target) for row in rows
        )
    assert validation_loss(adapted, rows, pad_id=0, device=CPU, tokens=150) == pytest.approx(expected, rel=1e-5)
