"""Faults that are injected into the program: a few in `make test`, many in `make faults`."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from support.warm_command import WarmCommand, quick_forks
from support.warm_study import WarmStudy, import_all, states_at_each_step

Trial = TypeVar("Trial")
FULL = "TUNEOFF_FULL_FAULTS"


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether all trials are wanted."""
    return bool(os.environ.get(FULL))


@pytest.fixture
def some_of(full: bool) -> Callable[[Sequence[Trial], int], list[Trial]]:
    """`some_of(trials, short)`: all of them in `make faults`, else `short` of them, always the same ones."""

    def choose(trials: Sequence[Trial], short: int) -> list[Trial]:
        if full or len(trials) <= short:
            return list(trials)
        return random.Random(0).sample(list(trials), short)

    return choose


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A few trials cost less than what they share; many are divided among the processes."""
    if not os.environ.get(FULL):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.xdist_group("faults"))


@pytest.fixture(scope="session")
def warm_flags(
    tiny_model: Callable[[str], Path], tiny_data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[str]]:
    """The flags of a tiny study but for its methods. All that it imports is there, so that forks need not import it."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("a fork of a process that has used an accelerator cannot train")
    flags = [
        f"--model={tiny_model('llama')}",
        *(f"--{split}-file={path}" for split, path in tiny_data.items()),
        *("--max-length=128", "--max-new-tokens=8", "--epochs=2", "--max-steps=5", "--eval-steps=2"),
        "--precision=fp32",
    ]
    folder = tmp_path_factory.mktemp("warm")
    WarmCommand.cache = folder / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEOFF_CACHE", str(WarmCommand.cache))
        import_all(["compare", *flags, "--methods=few_shot,lora,full"], folder / "study")
    with quick_forks():  # what else a fork changes is changed there: other tests of this process come in between
        yield flags


@pytest.fixture(scope="session")
def warm_study(warm_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> WarmStudy:
    """A study of two runs, one of which trains. Tests leave no folder of it behind."""
    folder = tmp_path_factory.mktemp("warm_study")
    return WarmStudy.carried_out([*warm_flags, "--methods=zero_shot,lora"], folder, states_at_each_step)
