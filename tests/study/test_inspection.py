"""A model is looked at once: after that its skeleton is not built again, and torch is not loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from tuneoff import models
from tuneoff.errors import UserError
from tuneoff.methods import METHODS, build
from tuneoff.methods.lora import LoRA
from tuneoff.spec import ModelSpec
from tuneoff.study.inspection import InspectedModel


@pytest.fixture
def model(tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tiny_model("gemma3"), tmp_path / "model")
    return ModelSpec(name=str(tmp_path / "model"))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose skeletons are built."""
    names: list[str] = []
    make = models.skeleton

    def counted(spec: ModelSpec) -> PreTrainedModel:
        names.append(spec.name)
        return make(spec)

    monkeypatch.setattr(models, "skeleton", counted)
    return names


def answers(spec: ModelSpec) -> dict[str, str | None]:
    """What a study asks of a model, for every method."""
    model = InspectedModel(spec)
    model.check_weights()
    found: dict[str, str | None] = {"rows": str(model.embedding_rows), "positions": str(model.positions)}
    for name in METHODS:
        try:
            found[name] = model.check(build(name, {}))
        except UserError as error:
            found[name] = f"refused: {error}"
    return found


def test_a_known_model_gives_the_same_answers_without_a_skeleton(model: ModelSpec, built: list[str]) -> None:
    first = answers(model)
    assert (first["rows"], first["positions"]) == ("400", "512")
    refused = {name for name, answer in first.items() if (answer or "").startswith("refused: ")}
    assert refused == {"bitfit", "prefix_tuning"}
    assert answers(model) == first
    assert len(built) == 1


def test_another_setting_of_a_method_or_a_model_is_another_question(model: ModelSpec, built: list[str]) -> None:
    InspectedModel(model).check(LoRA())
    InspectedModel(model).check(LoRA(target_modules=("q_proj",)))
    assert len(built) == 2
    config = Path(model.name) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rms_norm_eps": 0.5}))
    InspectedModel(model).check(LoRA())
    assert len(built) == 3


def test_a_model_that_cannot_be_loaded_is_not_remembered(model: ModelSpec, built: list[str]) -> None:
    config = Path(model.name) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 3, "layer_types": None}))
    for _ in range(2):
        with pytest.raises(UserError, match=r"lacks \d+ weights? of a Gemma3ForCausalLM"):
            InspectedModel(model).check_weights()
    assert len(built) == 2


def test_a_method_of_another_package_is_asked_each_time(
    model: ModelSpec, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoRA, "__module__", "elsewhere")
    for _ in range(2):
        InspectedModel(model).check(LoRA())
    assert len(built) == 2


def test_what_headers_rule_out_needs_no_skeleton(model: ModelSpec, built: list[str]) -> None:
    inspected = InspectedModel(model)
    with pytest.raises(UserError, match=r"named 'nope'; there are down_proj, embed_tokens, gate_proj"):
        inspected.check_early(LoRA(target_modules=("nope",)))
    with pytest.raises(UserError, match=r"last_layers\.num_layers = 3: this model has 2 blocks"):
        inspected.check_early(build("last_layers", {"num_layers": 3}))
    with pytest.raises(UserError, match="bitfit: a model of the kind gemma3_text has no biases to tune"):
        inspected.check_early(build("bitfit", {}))
    assert built == []
