"""Tokenizes many texts into one cache file, once for a tokenizer and a data set. Rows are read one by one."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuneoff import cache

if TYPE_CHECKING:
    import numpy.typing as npt
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

ID_BYTES = 4
# Enough to keep the tokenizer's threads busy, with little memory for long documents.
_BATCH_TEXTS = 1000
_BATCH_CHARACTERS = 4_000_000


class TokenizedTexts:
    """The token ids of N texts, on disk. `lengths` (N,) needs no reading."""

    def __init__(self, cached: cache.CachedFile) -> None:
        self._cached = cached
        self._ends = np.frombuffer(cached.tables["ends"], np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of token ids of each text (N,)."""
        return np.diff(self._ends)

    def ids(self, index: int, limit: int | None = None) -> list[int]:
        """The first `limit` token ids of a text, or all of them."""
        start, end = int(self._ends[index]), int(self._ends[index + 1])
        size = end - start if limit is None else min(limit, end - start)
        data = self._cached.read(ID_BYTES * start, ID_BYTES * size)
        ids: list[int] = np.frombuffer(data, "<u4").tolist()
        return ids


def tokenize_as_plain_text(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens.

    A document that contains "<|im_end|>" must not end the user's turn, so special tokens in it are split like any text.
    """
    if _uses_backend_directly(type(tokenizer)):
        return _tokenize_with_backend(tokenizer.backend_tokenizer, texts)
    batch = tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,  # unused, and a fifth of the time
        return_token_type_ids=False,
        verbose=False,
    )
    ids: list[list[int]] = batch["input_ids"]
    return ids


def _uses_backend_directly(tokenizer_class: type[PreTrainedTokenizerBase]) -> bool:
    """Whether a class passes texts unchanged to the `tokenizers` library."""
    from transformers import PreTrainedTokenizerFast

    return issubclass(tokenizer_class, PreTrainedTokenizerFast) and all(
        getattr(tokenizer_class, name, None) is getattr(PreTrainedTokenizerFast, name, None)
        for name in ("__call__", "_encode_plus")
    )


def _tokenize_with_backend(backend: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Skips offsets, masks and copies, which are unused and take a fifth of the time."""
    before = backend.encode_special_tokens
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    try:
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = before


def open_tokenized(key: str | None) -> TokenizedTexts | None:
    """Open the token ids that were cached under a key of `tokens_cache_key`; None if there are none."""
    cached = cache.open_cached("tokens", key) if key is not None else None
    return None if cached is None else TokenizedTexts(cached)


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], key: str | None = None) -> TokenizedTexts:
    """Tokenize texts batch by batch. With a key, the token ids are cached for other processes."""
    ends = array("q", [0])
    with cache.CacheWriter("tokens", key) as writer:
        for batch in _text_batches(texts):
            flat = array("I")
            for ids in tokenize_as_plain_text(tokenizer, batch):
                flat.fromlist(ids)
                ends.append(ends[-1] + len(ids))
            writer.append(np.asarray(flat, dtype="<u4").tobytes())
        return TokenizedTexts(writer.finish({"ends": ends.tobytes()}))


def _text_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == _BATCH_TEXTS or characters > _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def tokens_cache_key(fingerprint: str, text_names: list[str]) -> str:
    """The cache key of token ids.

    `fingerprint` is the `tokenizer_fingerprint`. `text_names` identify the texts: data, split, part and so on.
    """
    return cache.cache_key(tokenizer=fingerprint, texts=text_names, code=_tokenizing_code())


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Equal for tokenizers that make the same token ids.

    None for a tokenizer written in Python or with code of its own, because its content is not known.
    """
    if not tokenizer.is_fast or not type(tokenizer).__module__.startswith("transformers."):
        return None
    state: str = tokenizer.backend_tokenizer.to_str()
    return f"{type(tokenizer).__qualname__} {hashlib.sha256(state.encode()).hexdigest()}"


@functools.cache
def _tokenizing_code() -> list[str]:
    """Digests and versions of the code that decides about token ids."""
    versions = [importlib.metadata.version(name) for name in ("tokenizers", "transformers")]
    return [cache.file_digest(Path(__file__)), *versions]
