"""Weights that are NaN or infinite are found in the files, in every number format, and sound files are remembered."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tuneoff import finite_weights
from tuneoff.errors import UserError
from tuneoff.finite_weights import check_finite


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))


def folder_with(tmp_path: Path, **tensors: torch.Tensor) -> Path:
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_each_number_format(dtype: torch.dtype, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite_weights, "_READ_BYTES", 64)
    largest = torch.full((100,), torch.finfo(dtype).max, dtype=dtype)
    check_finite(folder_with(tmp_path, first=largest, second=-largest))
    damaged = largest.clone()
    damaged[77] = value
    folder_with(tmp_path, first=largest, second=damaged, third=torch.arange(9))
    with pytest.raises(
        UserError, match=r"model\.safetensors: NaN or infinite values in 1 of its tensors \(first: second\)"
    ):
        check_finite(tmp_path)


def test_tensors_without_effect_may_hold_anything(tmp_path: Path) -> None:
    check_finite(folder_with(tmp_path, **{"h.0.attn.masked_bias": torch.tensor(-float("inf"))}))


def test_shards_are_read_and_other_files_are_not(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    shutil.copytree(tiny_model("llama"), tmp_path / "model")
    state = load_file(tmp_path / "model" / "model.safetensors")
    (tmp_path / "model" / "model.safetensors").unlink()
    state["model.norm.weight"][0] = float("nan")
    save_file(state, tmp_path / "model" / "consolidated.safetensors")
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"model.norm.weight": "a.safetensors"}}')
    save_file({"model.norm.weight": torch.ones(3)}, tmp_path / "model" / "a.safetensors")
    check_finite(tmp_path / "model")
    index.write_text('{"weight_map": {"model.norm.weight": "consolidated.safetensors"}}')
    with pytest.raises(UserError, match=r"consolidated\.safetensors: NaN or infinite"):
        check_finite(tmp_path / "model")


def test_a_sound_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_finite(folder_with(tmp_path, first=torch.ones(3)))
    monkeypatch.setattr(finite_weights, "_has_others", lambda *_: pytest.fail("read again"))
    check_finite(tmp_path)
