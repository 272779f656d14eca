"""Tokenizers in the words of llama.cpp."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tuneoff.errors import UserError
from tuneoff.export.gguf_vocabulary import pre_tokenizer_name, read_vocabulary

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def state(*steps: dict[str, Any], **model: Any) -> dict[str, Any]:
    return {
        "model": {"type": "BPE", **model},
        "normalizer": None,
        "pre_tokenizer": steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": list(steps)},
    }


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (state(BYTES), "gpt-2"),
        (state({"type": "Digits", "individual_digits": True}, BYTES), "smollm"),
        (state(split(LLAMA_3), BYTES | {"use_regex": False}, ignore_merges=True), "llama-bpe"),
        (state(split(LLAMA_3.replace("{1,3}", "")), BYTES | {"use_regex": False}), "qwen2"),
        (state(split(LLAMA_3), BYTES | {"use_regex": False}), None),  # llama.cpp would skip merges
        (state(split("x"), BYTES | {"use_regex": False}), None),
        (state(BYTES | {"add_prefix_space": True}), None),
        (state(BYTES, byte_fallback=True), None),
        (state(BYTES, end_of_word_suffix="</w>"), None),
        (state({"type": "Metaspace"}), None),
        (state(BYTES) | {"normalizer": {"type": "Lowercase"}}, None),
        (state(BYTES) | {"model": {"type": "Unigram"}}, None),
        ({}, None),
    ],
)
def test_the_name_follows_from_what_the_tokenizer_does(found: dict[str, Any], name: str | None) -> None:
    assert pre_tokenizer_name(found) == name


def test_special_tokens_rows_without_a_token_and_other_ends(tiny_model: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    size = len(tokenizer)
    found = read_vocabulary(tokenizer, size + 2, frozenset({0, 1}))
    assert found.tokens[:2] == ("<|end|>", "<|user|>")
    assert found.kinds[:3] == (3, 3, 1)
    assert found.tokens[size:] == (f"[PAD{size}]", f"[PAD{size + 1}]")
    assert found.kinds[size:] == (5, 5)
    assert found.special == {"eos": 0, "eot": 1}
    assert len(found.merges) == len(json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"])
    with pytest.raises(UserError, match="embeddings"):
        read_vocabulary(tokenizer, size - 1, frozenset())


@pytest.mark.parametrize("rule", ["lstrip", "rstrip", "single_word"])
def test_added_tokens_that_take_spaces_or_whole_words_are_not_those_of_llama_cpp(rule: str) -> None:
    token = {"id": 5, "content": "<tool>", "lstrip": False, "rstrip": False, "single_word": False, "special": True}
    assert pre_tokenizer_name(state(BYTES) | {"added_tokens": [token]}) == "gpt-2"
    assert pre_tokenizer_name(state(BYTES) | {"added_tokens": [token | {rule: True}]}) is None


def test_further_end_tokens_the_default_chat_template_and_normalization(
    tiny_model: Callable[[str], Path],
) -> None:
    from tokenizers import normalizers

    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    assert not read_vocabulary(tokenizer, 400, frozenset({0})).nfc
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    tokenizer.chat_template = {"rag": "for documents", "default": "the usual one"}
    found = read_vocabulary(tokenizer, 400, frozenset({0, 3, 1}))
    assert found.special == {"eos": 0, "eot": 1, "eom": 3}
    assert found.chat_template == "the usual one"
    assert found.nfc


def test_a_tokenizer_that_llama_cpp_does_not_have_is_refused(tiny_model: Callable[[str], Path]) -> None:
    from tokenizers import pre_tokenizers

    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UserError, match="--to merged, and convert that folder"):
        read_vocabulary(tokenizer, 400, frozenset())
