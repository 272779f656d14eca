"""When memory runs out, the same work is done in smaller parts."""

import math
from pathlib import Path

import pytest
import torch

from support.tiny_bases import load_tiny
from support.token_rows import CPU, random_rows
from support.training_world import World
from tuneoff.engine import gradients, trainer
from tuneoff.engine.generation import generate
from tuneoff.engine.memory import retry_smaller
from tuneoff.methods.base import AdaptedModel
from tuneoff.spec import GenerateSpec

FULL = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


def test_the_pieces_double_until_they_are_small_enough() -> None:
    tried: list[int] = []
    notes: list[str] = []

    def attempt(parts: int) -> str:
        tried.append(parts)
        if parts < 4:
            raise RuntimeError(FULL)
        return "done"

    assert retry_smaller(attempt, 1, 8, "a step", notes.append) == ("done", 4)
    assert tried == [1, 2, 4]
    assert notes == ["memory ran out during a step; from there on it was computed in 4 smaller parts"]
    tried.clear()
    with pytest.raises(RuntimeError, match="allocate"):
        retry_smaller(attempt, 1, 2, "a step", notes.append)
    assert tried == [1, 2]


def test_other_errors_are_raised_at_once() -> None:
    def attempt(_parts: int) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes"):
        retry_smaller(attempt, 1, 8, "a step", lambda _text: None)


@pytest.fixture
def world(tiny_model, tmp_path: Path) -> World:
    return World(tiny_model("llama"), tmp_path)


@pytest.mark.usefixtures("several_threads")
@pytest.mark.parametrize("name", ["lora", "full", "soft_prompt"])
def test_a_step_without_memory_gives_the_same_losses(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout too: the masks of the parts are those of the whole micro-batch. Also if memory runs out twice."""
    adapted, expected = world.fit(name, epochs=3, batch_size=20)
    weights = {key: tensor.detach().clone() for key, tensor in adapted.state().items()}
    real, calls = gradients.batch_loss, 0

    def batch_loss(adapted, rows, *args):
        nonlocal calls
        calls += 1
        if len(rows) > 2 and calls > 6:  # in the second step, after some gradients were accumulated
            raise RuntimeError(FULL)
        return real(adapted, rows, *args)

    monkeypatch.setattr(gradients, "batch_loss", batch_loss)
    world.checkpoints.note = world.notes.append
    again, curve = world.fit(name, epochs=3, batch_size=20)
    assert [note for note in world.notes if "memory ran out during a step" in note]
    for one, other in zip(curve.train, expected.train, strict=True):
        assert math.isclose(one.loss, other.loss, rel_tol=1e-6)
    for key, tensor in again.state().items():
        torch.testing.assert_close(tensor, weights[key], rtol=1e-3, atol=1e-4)


def test_a_validation_without_memory_gives_the_same_loss(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = AdaptedModel(world.base.model)
    world.validation = world.train
    expected = world.loss(adapted)
    real = gradients.batch_loss

    def batch_loss(adapted, rows, *args):
        if len(rows) > 1:
            raise RuntimeError(FULL)
        return real(adapted, rows, *args)

    monkeypatch.setattr(trainer, "batch_loss", batch_loss)
    notes: list[str] = []
    found = trainer.validation_loss(adapted, world.validation, pad_id=0, device=CPU, tokens=4096, note=notes.append)
    assert math.isclose(found, expected, rel_tol=1e-6)
    assert "the validation loss" in notes[0]


def test_generation_without_memory_uses_smaller_batches(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneoff.engine import generation

    adapted = AdaptedModel(load_tiny(tiny_model("llama")).model)
    prompts = random_rows(((9, 0), (4, 0), (7, 0), (5, 0)))
    spec = GenerateSpec(max_new_tokens=4, batch_size=4)
    notes: list[str] = []

    def write():
        return generate(adapted, prompts, spec, stop_ids=frozenset({400}), pad_id=0, device=CPU, note=notes.append)

    expected = write()
    real = generation._decode_greedily

    def decode(model, rows, *args):
        if len(rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, rows, *args)

    monkeypatch.setattr(generation, "_decode_greedily", decode)
    assert write() == expected
    assert notes == ["memory ran out during generation; from there on it was computed in 4 smaller parts"]
