"""A training that is interrupted comes out as if it had not been."""

import itertools
import math

import pytest
import torch

from support.training_world import World
from tuneoff.engine import checkpoint
from tuneoff.engine.checkpoint import Checkpoints, DamagedState
from tuneoff.engine.trainer import _BestState
from tuneoff.methods import METHODS, build
from tuneoff.results.events import StepDone, Validated

pytestmark = pytest.mark.usefixtures("several_threads")

TRAINED = [name for name, method in METHODS.items() if method.trains]
SEARCHED = {name: METHODS[name].search["learning_rate"][1] for name in TRAINED}
# 10 steps, 5 an epoch, a look at the validation data after each epoch and half-way
EFFORT = {"epochs": 2, "evaluations_per_epoch": 2, "max_grad_norm": 1.0}
IDENTITY = {"run": "0123"}


class Stopped(BaseException):
    """As sudden as a kill: nothing in the program expects it."""


@pytest.fixture
def world(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_MAX_TIME_FRACTION", math.inf)  # however long keeping takes
    made = World(tiny_model("qwen2"), tmp_path)
    made.notes = []
    made.checkpoints = kept(made)
    return made


def kept(world, identity=IDENTITY):
    """A state after every step."""
    return Checkpoints(world.scratch, identity, note=world.notes.append, min_seconds=-1e9)


def weights(adapted):
    return {name: tensor.detach().clone() for name, tensor in adapted.state().items()}


def told(world):
    steps = [event.step for event in world.events if isinstance(event, StepDone)]
    return steps, [(event.step, event.best) for event in world.events if isinstance(event, Validated)]


def undisturbed(world, name, **spec):
    world.checkpoints = Checkpoints(world.scratch)
    adapted, curve = world.fit(name, rate=SEARCHED[name], **EFFORT, **spec)
    events = told(world)
    world.events.clear()
    world.meter = type(world.meter)()
    world.checkpoints = kept(world)
    return weights(adapted), curve, events


def stop_after(world, step, kind=StepDone):
    """Stop when this step is told, before its state is kept; the tokens counted so far are lost with the process."""

    def emit(event):
        World.emit(world, event)
        if isinstance(event, kind) and event.step == step:
            raise Stopped

    world.emit = emit


def go_on(world, name, **spec):
    """A new process: nothing of the old one but its folder."""
    world.emit = world.events.append
    world.events.clear()
    world.meter = type(world.meter)()
    world.checkpoints = kept(world)
    return world.fit(name, rate=SEARCHED[name], **EFFORT, **spec)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], tensor) for name, tensor in other.items())


@pytest.mark.parametrize(
    ("name", "step"),
    [*((name, 7) for name in TRAINED), *itertools.product(("lora", "full"), (1, 5, 10))],
)
def test_an_interrupted_training_goes_on_to_the_same_bits(world, name, step):
    expected, curve, events = undisturbed(world, name)
    stop_after(world, step)
    with pytest.raises(Stopped):
        world.fit(name, rate=SEARCHED[name], **EFFORT)
    assert world.checkpoints.exists == (step > 1)
    adapted, again = go_on(world, name)
    assert again == curve
    assert same(weights(adapted), expected)
    assert told(world) == events
    assert len(world.notes) == (step > 1)
    assert sum(point.tokens for point in curve.train) == world.meter.counters["train"].tokens


@pytest.mark.parametrize("look", [0, 1, 2])
def test_a_stop_while_validating_loses_no_best_state(world, look):
    """At a rate that is too high the first look is the best: its weights must outlive the stop."""
    spec = {"schedule": "constant", "warmup": 0.0}
    expected, curve, _ = undisturbed(world, "full", **spec)
    stop_after(world, curve.validation[look].step, Validated)
    with pytest.raises(Stopped):
        world.fit("full", rate=SEARCHED["full"], **EFFORT, **spec)
    adapted, again = go_on(world, "full", **spec)
    assert again == curve
    assert same(weights(adapted), expected)


def test_what_had_ended_is_not_trained_again(world):
    """The run was interrupted while it wrote its texts."""
    adapted, curve = world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    expected = weights(adapted)
    assert world.checkpoints.exists
    world.meter.phase = None  # nothing may be measured: nothing is done
    world.checkpoints = kept(world)
    adapted = build("lora", {}).adapt(world.load(), [], 0)
    again = world.fit_adapted(adapted, SEARCHED["lora"], **EFFORT)
    assert again == curve
    assert same(weights(adapted), expected)


def damages(data):
    yield "empty", b""
    yield "cut", data[: len(data) // 2]
    yield "foreign", b"PK\x03\x04" + data[4:]
    for place in range(7, len(data), max(1, len(data) // 12)):
        yield f"bit {place}", data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def test_a_damaged_state_is_never_taken(tmp_path):
    path = tmp_path / "state.safetensors"
    tensors = {"a": torch.randn(40), "b": torch.randn(3, 2).bfloat16(), "c": torch.tensor(2.0)}
    checkpoint.write_state(path, tensors, {"step": 3})
    found, about = checkpoint.read_state(path)
    assert (about, found.keys()) == ({"step": 3}, tensors.keys())
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    data = path.read_bytes()
    for name, damaged in damages(data):
        path.write_bytes(damaged)
        try:
            taken, told = checkpoint.read_state(path)
        except DamagedState:
            continue
        # Some bits say nothing (white space in the header): what is taken must then be what was written.
        assert told == {"step": 3}, name
        assert all(torch.equal(taken[key], tensor) for key, tensor in tensors.items()), name


def test_a_damaged_state_is_told_and_the_training_begins_anew(world):
    expected, curve, events = undisturbed(world, "lora")
    stop_after(world, 4)
    with pytest.raises(Stopped):
        world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    [file] = world.scratch.glob("checkpoint*")
    file.write_bytes(file.read_bytes()[:-9])
    adapted, again = go_on(world, "lora")
    assert (again, told(world)) == (curve, events)
    assert same(weights(adapted), expected)
    assert "could not be used" in world.notes[0]


def test_without_its_best_state_a_training_begins_anew(world):
    """Else every further attempt would fail where it goes back to it."""
    expected, curve, _ = undisturbed(world, "full", schedule="constant", warmup=0.0)
    stop_after(world, 9)
    with pytest.raises(Stopped):
        world.fit("full", rate=SEARCHED["full"], schedule="constant", warmup=0.0, **EFFORT)
    [best] = world.scratch.glob("best-*")
    best.write_bytes(best.read_bytes()[:-9])
    adapted, again = go_on(world, "full", schedule="constant", warmup=0.0)
    assert again == curve
    assert same(weights(adapted), expected)
    assert "lost or damaged" in world.notes[0]


def test_a_state_of_another_run_or_arithmetic_is_not_taken(world):
    stop_after(world, 4)
    with pytest.raises(Stopped):
        world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    other = kept(world, {"run": "4567"})
    assert other.load() is None
    assert not other.exists
    assert "computed otherwise" in world.notes[0]


def test_a_full_disk_stops_no_training(world, monkeypatch):
    _, curve, _ = undisturbed(world, "lora")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_state", full)
    monkeypatch.setattr(_BestState, "save", lambda *_args: None)  # without it there is no result: that is an error
    monkeypatch.setattr(_BestState, "restore", lambda *_args: None)
    _, again = world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    assert again == curve
    assert len(world.notes) == 1
    assert "No space left" in world.notes[0]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_last_state(tmp_path, monkeypatch, failing):
    path = tmp_path / "state.safetensors"
    checkpoint.write_state(path, {"a": torch.ones(4)}, {"step": 1})

    def fail(*_args):
        raise OSError(28, "No space left on device")

    target = checkpoint.os if failing == "fsync" else checkpoint.Path
    monkeypatch.setattr(target, failing, fail)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_state(path, {"a": torch.zeros(4)}, {"step": 2})
    monkeypatch.undo()
    assert checkpoint.read_state(path)[1] == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_states_are_kept_seldom_where_they_cost_much(tmp_path, monkeypatch):
    """At the earliest after `min_seconds`, and for a fiftieth of the time."""
    now = 0.0

    def slow(*_args):
        nonlocal now
        now += 10.0

    monkeypatch.setattr(checkpoint, "write_state", slow)
    states = Checkpoints(tmp_path, IDENTITY, min_seconds=60.0, clock=lambda: now)
    assert not states.due()
    now = 60.0
    assert states.due()
    states.save({}, {})
    now = 560.0
    assert not states.due()
    now = 570.0
    assert states.due()
    assert not Checkpoints(tmp_path, clock=lambda: 1e9).due()


def test_what_is_forgotten_takes_the_best_states_along(world):
    """A run that has ended leaves neither: of full tuning each is a whole model."""
    checkpoint.write_state(world.scratch / "best-25.safetensors", {"x": torch.ones(2)}, {})
    world.checkpoints.save({"x": torch.ones(2)}, {})
    world.checkpoints.delete()
    assert not list(world.scratch.glob("*.safetensors"))
