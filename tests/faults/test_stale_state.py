"""A whole state that other versions wrote, or that has another form: its training starts again and says so."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.kept_study import KeptStudy, check_repair
from support.study_folders import read_record
from tuneoff.engine import checkpoint

Tensors = dict[str, Tensor]
About = dict[str, Any]
Change = Callable[[Tensors, About], object]


def _written_by(name: str, version: str) -> Change:
    """By another version of a package, or with another number format or device."""

    def change(_tensors: Tensors, about: About) -> None:
        assert about["identity"][name] != version
        about["identity"][name] = version

    return change


def _first(tensors: Tensors, part: str) -> str:
    return next(name for name in tensors if name.startswith(part))


def _another_shape(tensors: Tensors, _about: About) -> None:
    name = _first(tensors, "weights/")
    tensors[name] = tensors[name].reshape(-1)[:-1].clone()


def _another_type(tensors: Tensors, _about: About) -> None:
    name = _first(tensors, "optimizer/exp_avg.")
    tensors[name] = tensors[name].double()


CHANGES: dict[str, Change] = {
    **{
        f"another {name}": _written_by(name, "0.0.1")
        for name in ("torch", "peft", "transformers", "tuneoff", "python", "numerics version", "device", "run")
    },
    "no torch": lambda _tensors, about: about["identity"].pop("torch"),
    "a package more": lambda _tensors, about: about["identity"].update(later="1.0"),
    "no identity": lambda _tensors, about: about.pop("identity"),
    "a key more": lambda _tensors, about: about.update(later=1),
    "a key more in the curve": lambda _tensors, about: about["course"]["curve"].update(later=1),
    "a key less in the course": lambda _tensors, about: about["course"].pop("ended"),
    "a number as text in the course": lambda _tensors, about: about["course"].update(bad_checks="1"),
    "steps without an end": lambda _tensors, about: about["course"]["curve"]["train"][-1].update(step=10**15),
    "another meter": lambda _tensors, about: about.update(meter={"later": "x"}),
    "a tensor by another name": lambda tensors, _about: tensors.update(
        {"weights/renamed": tensors.pop(_first(tensors, "weights/"))}
    ),
    "a tensor less": lambda tensors, _about: tensors.pop(_first(tensors, "optimizer/exp_avg.")),
    "a tensor more": lambda tensors, _about: tensors.update({"weights/later": torch.ones(1)}),
    "another shape": _another_shape,
    "another type": _another_type,
}


def rewrite(path: Path, change: Change) -> None:
    """Write the state again, with a right digest."""
    tensors, about = checkpoint.read_state(path)
    change(tensors, about)
    checkpoint.write_state(path, tensors, about)


@pytest.mark.slow
def test_a_state_of_other_versions_is_not_used(
    under_way: KeptStudy, kept_cache: Path, full: bool, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest state alone: the one before it is used. Both: the training starts again."""
    monkeypatch.setenv("TUNEOFF_CACHE", str(kept_cache))
    study, draw = under_way.study, random.Random(3 + seed)
    trials = [(name, both) for name in CHANGES for both in (False, True)]
    for name, both in trials if full else draw.sample(trials, 2):
        under_way.restore(kept_cache)
        newest = next(study.folder.glob("runs/*/checkpoint.safetensors"))
        older = newest.with_name("checkpoint-older.safetensors")
        for path in (newest, older) if both else (newest,):
            rewrite(path, CHANGES[name])
        where = f"{name} in {'both states' if both else 'the newest state'}"
        check_repair(study, where)
        notes = " ".join(read_record(newest.parent).notes)
        assert "does not fit" in notes, f"{where}: {notes}"
        assert ("training started again" in notes) == both, f"{where}: {notes}"
        assert (study.resumed_after(newest.parent.name) == 0) == both, f"{where}: {notes}"
