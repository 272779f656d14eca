"""What tiny random models and data of the tests are made of."""

from pathlib import Path

import pytest

ARCHITECTURES = ("gpt_neo", "llama", "gpt2", "qwen2", "gemma3")
_TWO = ("gpt_neo", "qwen2")  # with biases and learned positions; with rotation and shared heads
_ON_ALL = ("zero_shot", "few_shot", "soft_prompt", "lora", "last_layers", "full")


def pairs(names, *more):
    """Methods on architectures, and `more`, as parameters.

    Those that cannot be are left out: BitFit needs biases, prefix tuning all keys. The methods that are used most are
    on all architectures, others on two, and on the rest in `make test-all`.
    """
    refused = {("bitfit", "llama"), ("bitfit", "gemma3"), ("prefix_tuning", "gemma3")}
    return [
        pytest.param(
            *(name, architecture, *more),
            marks=() if name in _ON_ALL or architecture in _TWO else pytest.mark.slow,
        )
        for name in names
        for architecture in ARCHITECTURES
        if (name, architecture) not in refused
    ]


_WORDS = (
    "we show that a small model learns to name the result of each paper when the data is clean and the prompt is short "
    "the method of this paper is a new way to train models with few examples while the cost stays low"
).split()


def sentence(seed: int, words: int) -> str:
    """A deterministic sentence over a small vocabulary."""
    picked = [_WORDS[(seed * 7 + place * (seed % 5 + 3)) % len(_WORDS)] for place in range(words)]
    return " ".join(picked).capitalize() + "."


def example_row(index: int) -> dict[str, str]:
    """One row of a data file: three sentences, of which the first is the summary."""
    summary = sentence(index, 5)
    return {"id": f"d{index}", "document": f"{summary} {sentence(index + 100, 8 + index % 9)}", "summary": summary}


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>", "<|user|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([sentence(index, 30) for index in range(50)], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(folder)


def config_of(architecture: str):
    import transformers

    common = {"vocab_size": 400, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    llama_like = common | {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    if architecture == "gpt_neo":
        return transformers.GPTNeoConfig(
            **common,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            intermediate_size=64,
            attention_types=[[["global", "local"], 1]],
            window_size=16,
            max_position_embeddings=512,
        )
    if architecture == "gpt2":
        return transformers.GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=512)
    if architecture == "qwen2":
        return transformers.Qwen2Config(**llama_like, tie_word_embeddings=True)
    if architecture == "gemma3":
        layers = ["sliding_attention", "full_attention"]
        return transformers.Gemma3TextConfig(**llama_like, head_dim=8, sliding_window=16, layer_types=layers)
    if architecture == "wide_llama":  # widths that matrix units need
        wide = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 32}
        return transformers.LlamaConfig(**(llama_like | wide), tie_word_embeddings=True)
    return transformers.LlamaConfig(**llama_like)
