"""What can be known about models without their weights is said before any run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tuneoff import data, models
from tuneoff.data import Dataset
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec, GenerateSpec, ModelSpec, PromptSpec, StudySpec
from tuneoff.study.planner import build_methods
from tuneoff.study.preflight import check_models


@pytest.fixture
def study(tiny_data: dict[str, Path]) -> StudySpec:
    files = {f"{split}_file": str(path) for split, path in tiny_data.items()}
    return StudySpec(
        data=DataSpec(**files),
        prompt=PromptSpec(max_length=160),
        generate=GenerateSpec(max_new_tokens=8),
        methods=("zero_shot", "soft_prompt", "lora", "full"),
    )


@pytest.fixture
def dataset(study: StudySpec) -> Dataset:
    return data.load_dataset(study.data, ())


def checked(study: StudySpec, dataset: Dataset) -> None:
    check_models(study, build_methods(study).values(), dataset)


def on(study: StudySpec, folder: Path, **changes: Any) -> StudySpec:
    return study.model_copy(update={"models": (ModelSpec(name=str(folder)),)} | changes)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3"])
def test_a_sound_model(
    architecture: str, study: StudySpec, dataset: Dataset, tiny_model: Callable[[str], Path]
) -> None:
    checked(on(study, tiny_model(architecture)), dataset)


def test_modules_of_another_architecture(study: StudySpec, dataset: Dataset, tiny_model: Callable[[str], Path]) -> None:
    wrong = {"lora": {"target_modules": ("q_proj", "v_proj")}}
    with pytest.raises(UserError, match=r"lora\.target_modules: .* named 'q_proj'; there are c_attn, c_fc, c_proj"):
        checked(on(study, tiny_model("gpt2"), hyperparameters=wrong), dataset)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_more_tokens_than_positions(
    architecture: str, study: StudySpec, dataset: Dataset, tiny_model: Callable[[str], Path]
) -> None:
    long = on(study, tiny_model(architecture), prompt=PromptSpec(max_length=4096))
    with pytest.raises(UserError, match=r"has 512 positions; lower it to --max-length 512 at most"):
        checked(long, dataset)


def copy_with_rows(folder: Path, target: Path, more: int) -> int:
    """A copy of a model folder whose embedding has `more` rows than the tokenizer has tokens; the number of rows."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    shutil.copytree(folder, target)
    rows = len(models.load_tokenizer(ModelSpec(name=str(folder)))) + more
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": rows}
    AutoModelForCausalLM.from_config(LlamaConfig(**config)).save_pretrained(target)
    return rows


def test_a_template_with_tokens_that_have_no_embedding(
    study: StudySpec, dataset: Dataset, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    rows = copy_with_rows(tiny_model("llama"), folder, 0)
    tokenizer = models.load_tokenizer(ModelSpec(name=str(folder)))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = "{% for message in messages %}<|im_start|>{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=rf"token {rows} \(<\|im_start\|>\), .* has {rows} rows; .* --template plain"):
        checked(on(study, folder), dataset)
    checked(on(study, folder, prompt=PromptSpec(max_length=160, template="plain")), dataset)


def test_a_tokenizer_of_another_model(
    study: StudySpec, dataset: Dataset, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    rows = copy_with_rows(tiny_model("llama"), folder, -30)
    with pytest.raises(
        UserError, match=rf"its tokenizer has {rows + 30} tokens .* {rows} rows.*; copy the tokenizer's files"
    ):
        checked(on(study, folder), dataset)


def test_weights_that_are_not_finite_are_named_before_any_run(
    study: StudySpec, dataset: Dataset, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))
    state = load_file(folder / "model.safetensors")
    state["model.norm.weight"][0] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"model\.safetensors: NaN .*\(first: model\.norm\.weight\)"):
        checked(on(study, folder), dataset)
