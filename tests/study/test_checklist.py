"""The list of `tuneoff check`: one item that fails does not hide the others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.spec import DataSpec, GenerateSpec, ModelSpec, PromptSpec, StudySpec
from tuneoff.study import resources
from tuneoff.study.checklist import look_at


@pytest.fixture
def study(tiny_data: dict[str, Path], tiny_model: Callable[[str], Path]) -> StudySpec:
    files = {f"{split}_file": str(path) for split, path in tiny_data.items()}
    return StudySpec(
        data=DataSpec(**files),
        models=(ModelSpec(name=str(tiny_model("gpt2"))),),
        prompt=PromptSpec(max_length=160),
        generate=GenerateSpec(max_new_tokens=8),
        methods=("zero_shot", "soft_prompt", "lora", "full"),
    )


def test_a_sound_study(study: StudySpec, tmp_path: Path) -> None:
    found = list(look_at(study, tmp_path / "study"))
    assert not [item for item in found if item.passed is False]
    names = {item.name for item in found}
    assert {"folder", "data", "columns", "model", "tokenizer", "weights", "positions", "tokens"} <= names
    assert {*study.methods, "prompts", "memory", "disk", "caution", "minutes"} <= names
    assert not (tmp_path / "study").exists()


def test_all_that_fails_is_listed(study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "machine_memory", lambda: 1)
    (tmp_path / "file").write_text("")
    wrong = study.model_copy(
        update={
            "data": DataSpec(train_file=str(tmp_path / "none.jsonl")),
            "prompt": PromptSpec(max_length=4096),
            "hyperparameters": {"lora": {"target_modules": ("q_proj",)}},
            "models": (*study.models, ModelSpec(name=str(tmp_path / "no-model"))),
        }
    )
    found = list(look_at(wrong, tmp_path / "file"))
    failed = {item.name for item in found if item.passed is False}
    assert failed == {"folder", "data", "positions", "lora", "memory", "model"}
    assert {item.name for item in found if item.passed} >= {"tokenizer", "weights", "soft_prompt", "full"}
