"""A tokenizer as llama.cpp reads it: byte-level BPE with merges, kinds of tokens and the name of its pre-tokenizer.

The name is found from what the tokenizer does, not from its model's name: a GGUF file must split texts as training did.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneoff.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The patterns of tokenizer.json, each with the name of the same pattern in llama.cpp (src/llama-vocab.cpp).
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = {rf"{_WORDS}\p{{N}}{{1,3}}{_REST}": "llama-bpe", rf"{_WORDS}\p{{N}}{_REST}": "qwen2"}
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # llama.cpp's kinds of tokens
_SPACE = "\u0120"  # a space in byte-level BPE


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says about its tokenizer. `special` maps `bos`, `eos`, `eot`, `eom`, `unk` and `pad` to ids."""

    pre_tokenizer: str
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    merges: tuple[str, ...]
    special: Mapping[str, int]
    chat_template: str | None
    nfc: bool = False
    """Whether the tokenizer normalizes texts to NFC first. llama.cpp does not."""


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, stop_ids: frozenset[int]) -> Vocabulary:
    """The vocabulary of a tokenizer for a model with `rows` embeddings, that ends its texts with `stop_ids`.

    Raises `UserError` if llama.cpp has no tokenizer that does the same.
    """
    state = _state(tokenizer)
    name = pre_tokenizer_name(state)
    if name is None:
        raise UserError(
            "--to gguf: llama.cpp has no tokenizer that is known to split texts as this model's; use --to merged, and "
            "convert that folder with llama.cpp's convert_hf_to_gguf.py"
        )
    added = {entry["id"]: entry for entry in state.get("added_tokens", ())}
    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    if (largest := max(by_id)) >= rows:
        raise UserError(
            f"--to gguf: the tokenizer has a token {largest}, and the model only {rows} embeddings; use --to merged"
        )
    tokens, kinds = [], []
    for index in range(rows):
        if (entry := added.get(index)) is not None:
            kinds.append(_CONTROL if entry.get("special") else _USER_DEFINED)
        else:
            kinds.append(_NORMAL if index in by_id else _UNUSED)
        tokens.append(by_id.get(index, f"[PAD{index}]"))
    named = {kind: getattr(tokenizer, f"{kind}_token_id", None) for kind in ("bos", "eos", "unk", "pad")}
    special = {kind: token for kind, token in named.items() if isinstance(token, int)}
    # llama.cpp has two more end tokens: of a turn (eot) and of a message (eom)
    special |= zip(("eot", "eom"), sorted(stop_ids - {special.get("eos")}), strict=False)
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):  # several by name; this is the one that transformers uses if none is named
        template = template.get("default")
    return Vocabulary(
        pre_tokenizer=name,
        tokens=tuple(tokens),
        kinds=tuple(kinds),
        merges=tuple(_merge(pair) for pair in state["model"]["merges"]),
        special=special,
        chat_template=template if isinstance(template, str) else None,
        nfc=state.get("normalizer") is not None,
    )


def pre_tokenizer_name(state: Mapping[str, Any]) -> str | None:
    """llama.cpp's name of what a tokenizer (the object of a tokenizer.json) does before BPE; None without one.

    llama.cpp's BPE has no word prefixes or suffixes. It finds added tokens inside words too, and strips no space around
    them (`tokenizer_st_partition` in src/llama-vocab.cpp at 0c1e570).
    """
    model, before = state.get("model") or {}, state.get("pre_tokenizer") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        return None
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return None
    if any(token.get(rule) for token in state.get("added_tokens", ()) for rule in ("lstrip", "rstrip", "single_word")):
        return None
    if (state.get("normalizer") or {"type": "NFC"}).get("type") != "NFC":
        return None
    steps = before.get("pretokenizers", ()) if before.get("type") == "Sequence" else (before,)
    name = _name_of_steps(tuple(steps))
    if name is not None and bool(model.get("ignore_merges")) != (name == "llama-bpe"):
        return None
    return name


def _name_of_steps(steps: tuple[Mapping[str, Any], ...]) -> str | None:
    *earlier, last = steps or ({},)
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        return None
    if last.get("use_regex", True):
        if not earlier:
            return "gpt-2"
        only = earlier[0] if len(earlier) == 1 else {}
        return "smollm" if only.get("type") == "Digits" and only.get("individual_digits") else None
    if len(earlier) != 1 or earlier[0].get("type") != "Split":
        return None
    split = earlier[0]
    if split.get("behavior") != "Isolated" or split.get("invert"):
        return None
    return _PATTERNS.get((split.get("pattern") or {}).get("Regex", ""))


def _state(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    if not tokenizer.is_fast:
        return {}
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return state


def _merge(pair: str | list[str]) -> str:
    """Two tokens with a space between them, in which those that hold a space themselves have another sign for it."""
    return pair if isinstance(pair, str) else " ".join(part.replace(" ", _SPACE) for part in pair)
