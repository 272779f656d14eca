"""Faults that are injected into the program: a few in `make test`, many in `make faults`."""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from support.file_operations import changed_path
from support.kept_study import KeptStudy
from support.warm_command import Role, WarmCommand, quick_forks
from support.warm_study import WarmStudy, import_all, states_at_each_step

Trial = TypeVar("Trial")
FULL = "TUNEOFF_FULL_FAULTS"
SEED = "TUNEOFF_FAULTS_SEED"


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether all trials are wanted."""
    return bool(os.environ.get(FULL))


@pytest.fixture(scope="session")
def seed() -> int:
    """What random trials are drawn with: another value of TUNEOFF_FAULTS_SEED (0, 1, 2 ...) draws other trials."""
    return 1_000_000 * int(os.environ.get(SEED, "0"))


@pytest.fixture
def some_of(full: bool) -> Callable[[Sequence[Trial], int], list[Trial]]:
    """`some_of(trials, short)`: all of them in `make faults`, else `short` of them, always the same ones."""

    def choose(trials: Sequence[Trial], short: int) -> list[Trial]:
        if full or len(trials) <= short:
            return list(trials)
        return random.Random(0).sample(list(trials), short)

    return choose


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups
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


@pytest.fixture(scope="session")
def kept_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache folder of studies that are kept: tests set it."""
    return tmp_path_factory.mktemp("cached") / "cache"


def killed_at_its_fourth_state(role: Role) -> None:
    """The whole group dies when the training of `full` has kept three states, and has a step to go."""
    states_at_each_step(role)
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        path = changed_path(event, arguments) if event == "os.rename" else None
        if path is not None and "/full-" in path and path.endswith("/.checkpoint-new.safetensors.part"):
            count += 1
            if count == 4:
                os.killpg(0, signal.SIGKILL)

    if role == "run":
        sys.addaudithook(hook)


@pytest.fixture(scope="session")
def under_way(warm_flags: list[str], kept_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> KeptStudy:
    """A study whose second training was killed when it had kept some states."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEOFF_CACHE", str(kept_cache))
        study = WarmStudy.carried_out(
            [*warm_flags, "--methods=soft_prompt,full"], tmp_path_factory.mktemp("under_way"), states_at_each_step
        )
        running = study.command.carry_out(killed_at_its_fourth_state)
        assert running.all_ended()
        assert running.code == -signal.SIGKILL, running.said
    return KeptStudy.of(study, kept_cache)
