"""Every default method on tiny random models of the families that people use: adapted, trained, saved, read again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from method_helpers import encoded, logits, train, write_texts

from support.tiny_bases import load_tiny
from tiny import write_tokenizer
from tuneoff.methods import METHODS, build

SIZE = {"vocab_size": 400, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
LLAMA = SIZE | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
OLDER = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
SLIDING = {"head_dim": 8, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
GPT_NEO = {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "GPT2": SIZE | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "GPTNeo": SIZE | GPT_NEO | {"hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 512},
    "GPTNeoX": OLDER,
    "OPT": OLDER | {"ffn_dim": 64, "word_embed_proj_dim": 32, "pad_token_id": 1},
    "Llama": LLAMA,
    "Qwen2": LLAMA | {"tie_word_embeddings": True},
    "Qwen3": LLAMA | {"head_dim": 8},
    "Gemma2": LLAMA | SLIDING,
    "Gemma3": {
        "text_config": LLAMA | SLIDING,
        "vision_config": {key: LLAMA[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")}
        | {"num_hidden_layers": 1, "image_size": 28, "patch_size": 14},
        "mm_tokens_per_image": 4,
        "image_token_index": 399,
        "boi_token_index": 398,
        "eoi_token_index": 397,
    },
    "Phi": LLAMA,
    "Falcon": OLDER | {"multi_query": True, "parallel_attn": True, "alibi": False, "bias": False},
    "Mixtral": LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2},
}
DEFAULT_METHODS = ("zero_shot", "soft_prompt", "lora", "full")


def a_template(folder: Path) -> None:
    """A chat template that wants a system's message to be absent and begins with a special token."""
    (folder / "chat_template.jinja").write_text(
        "{% for message in messages %}<|user|>{{ message['content'] | trim }}\n{% endfor %}"
        "{% if add_generation_prompt %}->{% endif %}"
    )


def save(family: str, folder: Path, rows: int = 400, **how: Any) -> Path:
    """A random model of a family. `rows` of its embedding: more than the tokenizer has tokens, after a resize."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
    model = transformers.AutoModelForCausalLM.from_config(config)
    if rows != 400:
        model.resize_token_embeddings(rows)
    model.save_pretrained(folder, **how)
    write_tokenizer(folder)
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning:peft")  # its advice about tied weights
@pytest.mark.parametrize("family", FAMILIES)
def test_every_default_method_works_on_every_family(family: str, tmp_path: Path) -> None:
    folder = save(family, tmp_path / family)
    for name in DEFAULT_METHODS:
        method = build(name, {})
        base = load_tiny(folder)
        rows = encoded(base, 2)
        adapted = method.adapt(base, [], 0)
        if METHODS[name].trains:
            before = logits(adapted, rows)
            train(adapted, rows, steps=2)
            after = logits(adapted, rows)
            assert not torch.equal(before, after), name
            adapted.save(tmp_path / name)
            restored = method.restore(load_tiny(folder), tmp_path / name)
            torch.testing.assert_close(logits(restored, rows), after, atol=1e-4, rtol=1e-3)
        adapted.merge()
        texts = write_texts(adapted, base, rows, 3)
        assert len(texts) == len(rows)


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.parametrize(
    "make",
    [
        lambda folder: save("Llama", folder, max_shard_size="40KB"),
        lambda folder: save("Llama", folder, rows=448),
        lambda folder: save("Qwen2", folder, rows=448),
        lambda folder: a_template(save("GPT2", folder)),
    ],
    ids=["sharded", "resized", "tied and resized", "template"],
)
def test_default_methods_on_other_forms_of_a_folder(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path)
    for name in DEFAULT_METHODS:
        base = load_tiny(tmp_path)
        rows = encoded(base, 2)
        adapted = build(name, {}).adapt(base, [], 0)
        if METHODS[name].trains:
            train(adapted, rows, steps=1)
        assert len(write_texts(adapted, base, rows, 2)) == len(rows)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_experts_are_left_out_and_it_is_said(method: str, tmp_path: Path) -> None:
    base = load_tiny(save("Mixtral", tmp_path))
    adapted = build(method, {}).adapt(base, [], 0)
    assert set(adapted.details["target_modules"]) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    (note,) = adapted.notes
    assert note == f"{method}: the experts are left out, which are 60 % of the parameters"
