"""Plans that no machine of this size can carry out are refused with figures."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.spec import ModelSpec
from tuneoff.study import resources

BIG = ModelSpec(name="big")


def test_parameters_are_counted_from_the_header(tiny_model: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file

    folder = tiny_model("llama")
    tensors = load_file(folder / "model.safetensors")
    counted = resources.count_parameters(ModelSpec(name=str(folder)))
    assert counted == sum(tensor.numel() for tensor in tensors.values())


def test_full_tuning_needs_gradients_and_moments() -> None:
    with pytest.raises(UserError, match=r"full on big: needs at least 112\.0 GB of memory for 7,000 M .* has 16\.0 GB"):
        resources.check_memory(BIG, 7_000_000_000, "full", 16_000_000_000)
    resources.check_memory(BIG, 7_000_000_000, "lora", 16_000_000_000)
    with pytest.raises(UserError, match=r"lora on big: needs at least 28\.0 GB"):
        resources.check_memory(BIG.model_copy(update={"precision": "fp32"}), 7_000_000_000, "lora", 16_000_000_000)


def test_each_process_of_a_run_needs_the_memory() -> None:
    resources.check_memory(BIG, 1_000_000_000, "full", 30_000_000_000)
    with pytest.raises(UserError, match=r"full on big: needs at least 32\.0 GB"):
        resources.check_memory(BIG, 1_000_000_000, "full", 30_000_000_000, processes=2)


def test_processes_that_cannot_train_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "usable_cores", lambda: 4)
    resources.check_processes(4, on_cpu=True)
    resources.check_processes(1, on_cpu=False)
    with pytest.raises(UserError, match="--processes 5: this machine has 4 processors"):
        resources.check_processes(5, on_cpu=True)
    with pytest.raises(UserError, match="--processes 2: an accelerator is not divided"):
        resources.check_processes(2, on_cpu=False)


def test_artefacts_must_fit_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "free_disk", lambda folder: 5_000_000_000)
    resources.check_disk(1_000_000_000, 2, tmp_path, "big")
    with pytest.raises(UserError, match=r"3 fully tuned models of big need at least 6\.0 GB of disk, and 5\.0 GB"):
        resources.check_disk(1_000_000_000, 3, tmp_path, "big")


def test_free_space_is_that_of_the_disk_where_the_folder_will_be(tmp_path: Path) -> None:
    assert resources.free_disk(tmp_path / "not" / "there") > 0


def test_a_setting_of_full_tuning_needs_what_full_tuning_needs() -> None:
    spec = ModelSpec(name="starter")
    assert resources.least_memory(spec, 100, "full@weight_decay=0.1") == resources.least_memory(spec, 100, "full")
    assert resources.least_memory(spec, 100, "lora@r=64") == resources.least_memory(spec, 100, "lora")
