"""What headers say about a model is what its skeleton says, or nothing."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny import ARCHITECTURES
from tuneoff import model_headers as headers
from tuneoff import models
from tuneoff.methods.lora import adaptable_layers
from tuneoff.model_folder import ModelFolder, Tensor, inspect_folder
from tuneoff.spec import ModelSpec


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_headers_and_skeleton_agree(architecture: str, tiny_model: Callable[[str], Path]) -> None:
    path = tiny_model(architecture)
    folder, skeleton = inspect_folder(path), models.skeleton(ModelSpec(name=str(path)))
    assert headers.positions(folder) == skeleton.config.max_position_embeddings
    assert headers.embedding_rows(folder) == skeleton.get_input_embeddings().num_embeddings
    assert headers.most_blocks(folder) == 2
    assert headers.has_no_bias(folder) != any(name.endswith(".bias") for name, _ in skeleton.named_parameters())
    known = {name.rsplit(".", 1)[-1] for name in adaptable_layers(skeleton)}
    assert set(headers.layers_without(folder, "nope")) | {"lm_head"} == known
    for target in known:
        assert headers.layers_without(folder, target) == []


@pytest.mark.parametrize("kind", sorted(headers.PLAIN_KINDS))
def test_transformers_renames_no_weight_of_a_plain_kind(kind: str) -> None:
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    assert not get_checkpoint_conversion_mapping(kind)


def folder_of(config: dict[str, Any], **shapes: tuple[int, ...]) -> ModelFolder:
    tensors = {name.replace("__", "."): Tensor("F32", shape) for name, shape in shapes.items()}
    return ModelFolder(Path("model"), {"model_type": "llama"} | config, tensors)


def test_what_is_not_certain_is_left_to_the_model() -> None:
    layers = {"model__embed_tokens__weight": (8, 4), "model__layers__5__q_proj__weight": (4, 4)}
    plain = folder_of({}, **layers)
    assert headers.layers_without(plain, "nope") == ["embed_tokens", "q_proj"]
    assert (headers.embedding_rows(plain), headers.most_blocks(plain)) == (8, 6)
    assert headers.layers_without(plain, "lm_head") == []  # may share the weight of the embedding
    for other in ({"model_type": "mixtral"}, {"auto_map": {"AutoModel": "code.Model"}}):
        changed = dataclasses.replace(plain, config={**plain.config, **other})
        assert headers.layers_without(changed, "nope") == []
        assert not headers.has_no_bias(changed)
        assert headers.embedding_rows(changed) is headers.most_blocks(changed) is None
    two = folder_of({}, **layers, audio__embed_tokens__weight=(9, 4))
    assert headers.embedding_rows(two) is None


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 9}, 9),
        ({"n_positions": 9}, 9),
        ({"n_positions": 9, "max_position_embeddings": 5}, None),
        ({"max_position_embeddings": 9, "text_config": {}}, None),
        ({"max_position_embeddings": "9"}, None),
        ({}, None),
    ],
)
def test_positions(config: dict[str, Any], positions: int | None) -> None:
    assert headers.positions(folder_of(config)) == positions


def test_the_size_of_the_vocabulary(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    model = tiny_model("llama")
    assert headers.vocabulary_size(model) == models.load_tokenizer(ModelSpec(name=str(model))).vocab_size
    assert headers.vocabulary_size(tmp_path) is None
    for content in ("{", "{}", "[]", '{"model": {"vocab": 5}}', '{"model": null}'):
        (tmp_path / "tokenizer.json").write_text(content)
        assert headers.vocabulary_size(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": [["a", -1.5], ["b", -2.0]]}}')  # of Unigram
    assert headers.vocabulary_size(tmp_path) == 2
