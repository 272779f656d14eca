"""An interrupted training resumes with the same result as an uninterrupted one. Damaged states are never used."""

import itertools
import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from support.training_world import World
from tuneoff import stopping
from tuneoff.engine import checkpoint, gradients
from tuneoff.engine.checkpoint import Checkpoints, DamagedState
from tuneoff.engine.trainer import _BestState
from tuneoff.methods import METHODS, build
from tuneoff.results import step_thinning
from tuneoff.results.events import StepDone, Validated
from tuneoff.results.run_record import Curve
from tuneoff.stopping import _Run

pytestmark = pytest.mark.usefixtures("several_threads")

TRAINED = [name for name, method in METHODS.items() if method.trains]
SEARCHED = {name: METHODS[name].search["learning_rate"][1] for name in TRAINED}
# 10 steps, 5 per epoch, a validation at the end and in the middle of each epoch
EFFORT = {"epochs": 2, "evaluations_per_epoch": 2, "max_grad_norm": 1.0}
IDENTITY = {"run": "0123"}


class Stopped(BaseException):
    """An error that no code catches, like a kill."""


@pytest.fixture
def world(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_MAX_TIME_FRACTION", math.inf)  # save however long it takes
    made = World(tiny_model("qwen2"), tmp_path)
    made.checkpoints = checkpoints_of(made)
    return made


def checkpoints_of(world, identity=IDENTITY):
    """Saves a state after every step."""
    return Checkpoints(world.scratch, identity, note=world.notes.append, min_seconds=-1e9)


def weights(adapted):
    return {name: tensor.detach().clone() for name, tensor in adapted.state().items()}


def emitted(world):
    steps = [event.step for event in world.events if isinstance(event, StepDone)]
    return steps, [(event.step, event.best) for event in world.events if isinstance(event, Validated)]


KNOWN: dict[tuple[object, ...], tuple[dict[str, torch.Tensor], Curve, tuple[list[int], list[tuple[int, bool]]]]] = {}


def uninterrupted(world, name, **spec):
    """Weights, curve and events of a training that nothing disturbs. Each is carried out once."""
    key = (name, step_thinning.MOST_POINTS, *sorted(spec.items()))
    if key not in KNOWN:
        world.checkpoints = Checkpoints(world.scratch)
        adapted, curve = world.fit(name, rate=SEARCHED[name], **EFFORT, **spec)
        KNOWN[key] = weights(adapted), curve, emitted(world)
        world.events.clear()
        world.meter = type(world.meter)()
        world.checkpoints = checkpoints_of(world)
    return KNOWN[key]


def stop_after(world, step, kind=StepDone):
    """Stop when this step is reported, before its state is saved. The meter is lost with the process."""

    def emit(event):
        World.emit(world, event)
        if isinstance(event, kind) and event.step == step:
            raise Stopped

    world.emit = emit


def resume(world, name, **spec):
    """As in a new process: only the folder is left."""
    world.emit = world.events.append
    world.events.clear()
    world.meter = type(world.meter)()
    world.checkpoints = checkpoints_of(world)
    return world.fit(name, rate=SEARCHED[name], **EFFORT, **spec)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], tensor) for name, tensor in other.items())


@pytest.mark.parametrize(
    ("name", "step"),
    [
        *((name, 7) for name in TRAINED),
        *itertools.product(("lora",), (1, 10)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("lora", 5), ("full", 1), ("full", 5), ("full", 10))
        ),
    ],
)
def test_an_interrupted_training_resumes_to_the_same_bits(world: World, name: str, step: int) -> None:
    expected, curve, events = uninterrupted(world, name)
    stop_after(world, step)
    with pytest.raises(Stopped):
        world.fit(name, rate=SEARCHED[name], **EFFORT)
    assert world.checkpoints.exists == (step > 1)
    adapted, again = resume(world, name)
    assert again == curve
    assert same(weights(adapted), expected)
    assert emitted(world) == events
    assert len(world.notes) == (step > 1)
    assert sum(point.tokens for point in curve.train) == world.meter.counters["train"].tokens


@pytest.mark.parametrize("validation", [0, 1, 2])
def test_an_interrupted_validation_loses_no_best_state(world: World, validation: int) -> None:
    """With a learning rate that is too high the first validation is the best. Its weights must survive."""
    spec = {"schedule": "constant", "warmup": 0.0}
    expected, curve, _ = uninterrupted(world, "full", **spec)
    stop_after(world, curve.validation[validation].step, Validated)
    with pytest.raises(Stopped):
        world.fit("full", rate=SEARCHED["full"], **EFFORT, **spec)
    adapted, again = resume(world, "full", **spec)
    assert again == curve
    assert same(weights(adapted), expected)


def test_a_finished_training_is_not_repeated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run was interrupted during generation."""
    adapted, curve = world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    expected = weights(adapted)
    assert world.checkpoints.exists
    monkeypatch.setattr(world.meter, "phase", None)  # fails if anything is measured
    world.checkpoints = checkpoints_of(world)
    adapted = build("lora", {}).adapt(world.load(), [], 0)
    again = world.fit_adapted(adapted, SEARCHED["lora"], **EFFORT)
    assert again == curve
    assert same(weights(adapted), expected)


def damaged_files(data):
    yield "empty", b""
    yield "truncated", data[: len(data) // 2]
    yield "foreign", b"PK\x03\x04" + data[4:]
    for offset in range(7, len(data), max(1, len(data) // 12)):
        yield f"bit {offset}", data[:offset] + bytes([data[offset] ^ 4]) + data[offset + 1 :]


def test_a_damaged_state_is_never_used(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    tensors = {"a": torch.randn(40), "b": torch.randn(3, 2).bfloat16(), "c": torch.tensor(2.0)}
    checkpoint.write_state(path, tensors, {"step": 3})
    found, about = checkpoint.read_state(path)
    assert (about, found.keys()) == ({"step": 3}, tensors.keys())
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    data = path.read_bytes()
    for name, damaged in damaged_files(data):
        path.write_bytes(damaged)
        try:
            tensors_read, about_read = checkpoint.read_state(path)
        except DamagedState:
            continue
        # Some bits have no meaning (white space in the header). The content must then be what was written.
        assert about_read == {"step": 3}, name
        assert all(torch.equal(tensors_read[key], tensor) for key, tensor in tensors.items()), name


def test_a_pipe_or_a_hole_is_no_state(tmp_path: Path) -> None:
    pipe, hole = tmp_path / "pipe.safetensors", tmp_path / "hole.safetensors"
    os.mkfifo(pipe)
    room = 10**12
    header = json.dumps(
        {
            "__metadata__": {"about": "{}", "digest": "0"},
            "a": {"dtype": "U8", "shape": [room], "data_offsets": [0, room]},
        }
    ).encode()
    hole.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(hole, 8 + len(header) + room)
    for path in (pipe, hole):
        with pytest.raises(DamagedState, match=path.name):
            checkpoint.read_state(path)


@pytest.mark.parametrize("about", ["[" * 200_000, "[1]", "null", "5", "9" * 5_000])
def test_metadata_of_another_form_are_damage(about: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    tensors = {"a": torch.ones(2)}
    save_file(tensors, path, metadata={"about": about, "digest": checkpoint._digest(tensors, about)})
    with pytest.raises(DamagedState, match=path.name):
        checkpoint.read_state(path)


def test_two_states_are_kept_and_the_older_one_replaces_a_damaged_one(world: World) -> None:
    """A learning rate that is too high: the best state is that of the first validation, which both states refer to."""
    spec = {"schedule": "constant", "warmup": 0.0}
    expected, curve, events = uninterrupted(world, "full", **spec)
    stop_after(world, 8)
    with pytest.raises(Stopped):
        world.fit("full", rate=SEARCHED["full"], **EFFORT, **spec)
    assert sorted(file.name for file in world.scratch.glob("checkpoint*")) == [
        "checkpoint-older.safetensors",
        "checkpoint.safetensors",
    ]
    newest = world.scratch / "checkpoint.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    adapted, again = resume(world, "full", **spec)
    assert "newest state of an interrupted attempt is damaged" in world.notes[0]
    assert "resumed after step 6" in world.notes[1]
    assert (again, emitted(world)) == (curve, events)
    assert same(weights(adapted), expected)


def changed(name, tensors, about):
    """A state as another version would write it: whole, but of another form."""
    weight = next(key for key in tensors if key.startswith("weights/"))
    moment = next(key for key in tensors if key.startswith("optimizer/exp_avg."))
    if name == "another name":
        tensors["weights/renamed"] = tensors.pop(weight)
    elif name == "a missing moment":
        del tensors[moment]
    elif name == "another shape":
        tensors[weight] = tensors[weight].reshape(-1)[:-1].clone()
    elif name == "another type":
        tensors[moment] = tensors[moment].double()
    elif name == "an unknown part":
        tensors["more/x"] = torch.ones(1)
    elif name == "a field more":
        about["later"] = 1
    elif name == "a field of the course":
        del about["course"]["ended"]
    elif name == "another type in the course":
        about["course"]["bad_checks"] = "1"
    elif name == "a field of the curve":
        about["course"]["curve"]["later"] = 1
    elif name == "steps without an end":
        about["course"]["curve"]["train"][-1]["step"] = 10**15
    elif name == "the meter":
        about["meter"] = {"later": "x"}
    elif name == "the versions":
        about["identity"]["torch"] = "1.0"


@pytest.mark.parametrize(
    "case",
    [
        "a missing moment",
        "a field of the curve",
        *(
            pytest.param(case, marks=pytest.mark.slow)
            for case in (
                *("another name", "the versions"),
                *("another shape", "another type", "an unknown part", "a field more"),
                *("a field of the course", "another type in the course", "steps without an end", "the meter"),
            )
        ),
    ],
)
def test_a_whole_state_that_does_not_fit_starts_the_training_again(world: World, case: str) -> None:
    expected, curve, events = uninterrupted(world, "lora")
    stop_after(world, 4)
    with pytest.raises(Stopped):
        world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    for file in world.scratch.glob("checkpoint*"):
        tensors, about = checkpoint.read_state(file)
        changed(case, tensors, about)
        checkpoint.write_state(file, tensors, about)
    adapted, again = resume(world, "lora")
    assert "does not fit" in world.notes[0]
    assert "training started again" in world.notes[0]
    assert (again, emitted(world)) == (curve, events)
    assert same(weights(adapted), expected)


@pytest.mark.parametrize("kind", [StepDone, Validated])
def test_a_request_to_stop_saves_the_state_after_the_last_step(world: World, kind: type) -> None:
    """Also with a checkpoint that would be due in an hour, and with a validation that was not completed."""
    expected, curve, events = uninterrupted(world, "lora")

    def emit(event):
        World.emit(world, event)
        if isinstance(event, kind) and event.step == curve.validation[0].step:  # type: ignore[attr-defined]
            stopping.request_stop(signal.SIGTERM)

    world.emit = emit  # type: ignore[method-assign]
    world.checkpoints = Checkpoints(world.scratch, IDENTITY, note=world.notes.append)
    with pytest.raises(stopping.Stopped) as stopped:
        world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    assert stopped.value.code == 143
    _Run.asked = None
    adapted, again = resume(world, "lora")
    assert f"resumed after step {curve.validation[0].step}" in world.notes[0]
    assert (again, emitted(world)) == (curve, events)
    assert same(weights(adapted), expected)


def test_a_request_to_stop_between_micro_batches_loses_no_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The random numbers that were drawn in the step that is given up are drawn again."""
    expected, curve, _ = uninterrupted(world, "lora")
    real, calls = gradients.batch_loss, 0

    def batch_loss(*args):
        nonlocal calls
        calls += 1
        if calls == 14:  # in the fourth step: each has four micro-batches
            torch.rand(3)
            _Run.asked = signal.SIGTERM
        return real(*args)

    monkeypatch.setattr(gradients, "batch_loss", batch_loss)
    world.checkpoints = Checkpoints(world.scratch, IDENTITY, note=world.notes.append)
    with pytest.raises(stopping.Stopped):
        world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    _Run.asked = None
    monkeypatch.undo()
    adapted, again = resume(world, "lora")
    assert "resumed after step 3" in world.notes[0]
    assert again == curve
    assert same(weights(adapted), expected)


def test_a_stop_after_the_training_saves_its_result(world: World) -> None:
    world.checkpoints = Checkpoints(world.scratch, IDENTITY, note=world.notes.append)
    adapted = build("lora", {}).adapt(world.load(), [], 0)
    trainer = world.trainer(adapted, SEARCHED["lora"], **EFFORT)
    curve, expected = trainer.fit(), weights(adapted)
    assert not world.checkpoints.exists
    adapted.merge()  # the generation has begun
    trainer.save_result()
    adapted, again = resume(world, "lora")
    assert again == curve
    assert same(weights(adapted), expected)


def test_with_a_damaged_state_the_training_starts_again_and_notes_it(world: World) -> None:
    expected, curve, events = uninterrupted(world, "lora")
    stop_after(world, 4)
    with pytest.raises(Stopped):
        world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    for file in world.scratch.glob("checkpoint*"):
        file.write_bytes(file.read_bytes()[:-9])
    adapted, again = resume(world, "lora")
    assert (again, emitted(world)) == (curve, events)
    assert same(weights(adapted), expected)
    assert "is damaged" in world.notes[0]
    assert "training started again" in world.notes[0]


def test_without_its_best_state_the_training_starts_again(world: World) -> None:
    """Otherwise every further attempt would fail when it restores the best state."""
    expected, curve, _ = uninterrupted(world, "full", schedule="constant", warmup=0.0)
    stop_after(world, 9)
    with pytest.raises(Stopped):
        world.fit("full", rate=SEARCHED["full"], schedule="constant", warmup=0.0, **EFFORT)
    for best in world.scratch.glob("best-*"):
        best.write_bytes(best.read_bytes()[:-9])
    adapted, again = resume(world, "full", schedule="constant", warmup=0.0)
    assert again == curve
    assert same(weights(adapted), expected)
    assert "missing or damaged" in world.notes[0]


def test_a_state_of_another_run_or_number_format_is_not_used(world: World) -> None:
    stop_after(world, 4)
    with pytest.raises(Stopped):
        world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    other = checkpoints_of(world, {"run": "4567", "torch": "9"})
    assert not other.resume(lambda *_state: None)
    assert not other.exists
    assert "written with another run and torch" in world.notes[0]


def test_a_full_disk_does_not_stop_the_training(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, curve, _ = uninterrupted(world, "lora")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_state", full)
    monkeypatch.setattr(
        _BestState, "save", lambda *_args: None
    )  # without a best state there is no result, which is an error
    monkeypatch.setattr(_BestState, "restore", lambda *_args: None)
    _, again = world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    assert again == curve
    assert len(world.notes) == 1
    assert "No space left" in world.notes[0]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_keeps_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.write_state(path, {"a": torch.ones(4)}, {"step": 1})

    def fail(*_args):
        raise OSError(28, "No space left on device")

    target = os if failing == "fsync" else Path
    monkeypatch.setattr(target, failing, fail)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_state(path, {"a": torch.zeros(4)}, {"step": 2})
    monkeypatch.undo()
    assert checkpoint.read_state(path)[1] == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_state_that_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors writes a header of any size, and reads one of 100 MB at most."""
    path = tmp_path / "state.safetensors"
    checkpoint.write_state(path, {"w": torch.ones(2)}, {"step": 1})
    before = path.read_bytes()
    monkeypatch.setattr(checkpoint, "MOST_HEADER_BYTES", 1000)
    with pytest.raises(OSError, match=r"header would have 1,\d+ bytes, and safetensors reads 1,000") as raised:
        checkpoint.write_state(path, {"w": torch.zeros(2)}, {"losses": list(range(200))})
    assert raised.value.filename == str(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_state_has_the_permissions_of_the_user(tmp_path: Path) -> None:
    """safetensors writes files that only their owner can read, so nobody else could go on."""
    before = os.umask(0o007)
    try:
        checkpoint.write_state(tmp_path / "state.safetensors", {"a": torch.ones(4)}, {"step": 1})
    finally:
        os.umask(before)
    assert (tmp_path / "state.safetensors").stat().st_mode & 0o777 == 0o660


def test_checkpoints_are_rare_where_they_are_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the earliest after `min_seconds`, and for at most 2 % of the time."""
    now = 0.0

    def slow(*_args):
        nonlocal now
        now += 10.0

    monkeypatch.setattr(Checkpoints, "_write", slow)
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


def test_on_a_full_disk_the_oldest_state_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = Checkpoints(tmp_path, IDENTITY)
    for step in (1, 2):
        assert states.save({"x": torch.ones(2)}, {"step": step})
    real = checkpoint.write_state

    def write(path, *args):
        if len(list(tmp_path.iterdir())) > 1:
            raise OSError(28, "No space left on device")
        real(path, *args)

    monkeypatch.setattr(checkpoint, "write_state", write)
    assert states.save({"x": torch.ones(2)}, {"step": 3})
    found = {file.name: checkpoint.read_state(file)[1]["step"] for file in tmp_path.iterdir()}
    assert found == {"checkpoint.safetensors": 3, "checkpoint-older.safetensors": 2}


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    for name in (".checkpoint-new.safetensors.part", ".best-3.safetensors.part", ".tmpQx81Za", "log.txt"):
        (tmp_path / name).write_bytes(b"half")
    assert not Checkpoints(tmp_path, IDENTITY).resume(lambda *_state: None)
    assert [file.name for file in tmp_path.iterdir()] == ["log.txt"]


def test_delete_removes_the_best_states_too(world: World) -> None:
    """With full fine-tuning each state is a whole model."""
    checkpoint.write_state(world.scratch / "best-25.safetensors", {"x": torch.ones(2)}, {})
    world.checkpoints.save({"x": torch.ones(2)}, {})
    world.checkpoints.delete()
    assert not list(world.scratch.glob("*.safetensors"))


def test_a_long_training_keeps_and_reports_few_steps_also_when_it_is_resumed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_thinning, "MOST_POINTS", 4)
    expected, curve, (steps, validations) = uninterrupted(world, "lora")
    assert [point.step for point in curve.train] == [1, 5, 9, 10]
    assert curve.steps == 10
    assert len(curve.validation) == len(validations) == 4
    assert steps == [1, 2, 3, 4, 5, 7, 9, 10]
    stop_after(world, 9)
    with pytest.raises(Stopped):
        world.fit("lora", rate=SEARCHED["lora"], **EFFORT)
    adapted, again = resume(world, "lora")
    assert again == curve
    assert same(weights(adapted), expected)
    assert emitted(world) == ([1, 5, 8, 9, 10], validations)
    assert [event.covers for event in world.events if isinstance(event, StepDone)] == [1, 4, 3, 1, 1]
