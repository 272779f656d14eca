"""Tiny random models of several architectures and a handful of documents: offline, made in seconds."""

import gc
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.shared_servers import sharing_servers
from tiny import config_of, example_row, write_tokenizer
from tuneoff.profiling import usable_cores
from tuneoff.study import executor, launcher

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("TUNEOFF_CACHE", None)  # tests have folders of their own
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each process that a test starts would compile torch anew
# Tiny models gain nothing from threads, and threads that spin while they wait slow down all that runs beside them. Read
# when torch is loaded, here and in the processes that tests start; `several_threads` is for what must have them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A shell starts what runs in the background deaf to Ctrl-C, which is what some tests are about.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: a process for each usable core, but each loads torch anew, for seconds and half a gigabyte."""
    return min(4, usable_cores())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test first: at the end, one process would be busy with it while the others have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("real") is None)


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.collect()
    gc.freeze()  # what was imported for the tests stays; a pass of the collector over it takes half a second
    # xdist names a group in the ids of its items. Under pytest 9.2, xdist 3.8 does not: fixtures are made twice.
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError(f"{item.nodeid}: this xdist does not keep groups together under this pytest")


@pytest.fixture(scope="session", autouse=True)
def shared_servers() -> Iterator[None]:
    """Studies fork their runs from servers that live as long as the tests."""
    with sharing_servers(launcher.launcher) as open_launcher, pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "launcher", open_launcher)
        yield


@pytest.fixture
def several_threads() -> Iterator[None]:
    """Pieces of a batch and of what is generated are computed side by side, whatever the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_model("llama")`: the folder of a random model of that architecture, made once a session."""
    made: dict[str, Path] = {}

    def make(architecture: str) -> Path:
        if architecture not in made:
            import torch
            from transformers import AutoModelForCausalLM

            folder = tmp_path_factory.mktemp(architecture)
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config_of(architecture))
            with torch.no_grad():  # the usual initialisation is too small for two layers to show any difference
                for parameter in model.parameters():
                    if parameter.ndim >= 2:
                        parameter.mul_(5)
            model.save_pretrained(folder)
            write_tokenizer(folder)
            made[architecture] = folder
        return made[architecture]

    return make


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """JSONL files: 24 training, 8 validation and 8 test documents."""
    folder = tmp_path_factory.mktemp("data")
    files = {}
    for split, start, count in (("train", 0, 24), ("validation", 24, 8), ("test", 32, 8)):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(example_row(start + index)) + "\n" for index in range(count)))
        files[split] = path
    return files
