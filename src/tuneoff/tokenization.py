"""Token ids of many texts in one flat file: made once for a tokenizer and a data set, read by the row."""

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
# Enough for the tokenizer's threads, and no memory to speak of where documents are long.
_TEXTS_AT_ONCE = 1000
_CHARACTERS_AT_ONCE = 4_000_000


class Tokens:
    """The ids of N texts. `lengths` (N,) are known without reading."""

    def __init__(self, kept: cache.Kept) -> None:
        self._kept = kept
        self._ends = np.frombuffer(kept.tables["ends"], np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Ids of each text."""
        return np.diff(self._ends)

    def first(self, place: int, count: int | None = None) -> list[int]:
        """The first `count` ids of a text, or all that it has."""
        start, end = int(self._ends[place]), int(self._ends[place + 1])
        size = end - start if count is None else min(count, end - start)
        data = self._kept.read(ID_BYTES * start, ID_BYTES * size)
        ids: list[int] = np.frombuffer(data, "<u4").tolist()
        return ids


def plain_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Ids of each text as it reads.

    A document that spells out "<|im_end|>" must not end the user's turn: special tokens are split in it.
    """
    if _leaves_texts_to_backend(type(tokenizer)):
        return _ids_of_backend(tokenizer.backend_tokenizer, texts)
    batch = tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,  # a mask costs a fifth of the time, and nobody wants it
        return_token_type_ids=False,
        verbose=False,
    )
    ids: list[list[int]] = batch["input_ids"]
    return ids


def _leaves_texts_to_backend(kind: type[PreTrainedTokenizerBase]) -> bool:
    """Whether a tokenizer does nothing of its own to texts on their way to the library that tokenizes them."""
    from transformers import PreTrainedTokenizerFast as Plain

    return issubclass(kind, Plain) and all(
        getattr(kind, name, None) is getattr(Plain, name, None) for name in ("__call__", "_encode_plus")
    )


def _ids_of_backend(backend: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Without places in the text, masks and copies, which take a fifth of the time and nobody wants."""
    before = backend.encode_special_tokens
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    try:
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = before


def find(key: str | None) -> Tokens | None:
    """The ids that were kept under a key of `key_of`."""
    kept = cache.find("tokens", key) if key is not None else None
    return None if kept is None else Tokens(kept)


def make(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], key: str | None = None) -> Tokens:
    """Tokenize texts, a part at a time; with a key the ids are kept for the next process."""
    ends = array("q", [0])
    with cache.Keeper("tokens", key) as keeper:
        for part in _parts(texts):
            flat = array("I")
            for ids in plain_ids(tokenizer, part):
                flat.fromlist(ids)
                ends.append(ends[-1] + len(ids))
            keeper.append(np.asarray(flat, dtype="<u4").tobytes())
        return Tokens(keeper.finish({"ends": ends.tobytes()}))


def _parts(texts: Iterable[str]) -> Iterator[list[str]]:
    part: list[str] = []
    characters = 0
    for text in texts:
        part.append(text)
        characters += len(text)
        if len(part) == _TEXTS_AT_ONCE or characters > _CHARACTERS_AT_ONCE:
            yield part
            part, characters = [], 0
    if part:
        yield part


def key_of(content: str, texts: list[str]) -> str:
    """The key of the ids that the tokenizer of `content` makes of `texts`, which are told by names: data, split, part
    and so on."""
    return cache.key_of(tokenizer=content, texts=texts, code=_own_code())


def content(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Equal for tokenizers that make the same ids. None for one whose content is not known: one in Python, or with
    code of its own."""
    if not tokenizer.is_fast or not type(tokenizer).__module__.startswith("transformers."):
        return None
    state: str = tokenizer.backend_tokenizer.to_str()
    return f"{type(tokenizer).__qualname__} {hashlib.sha256(state.encode()).hexdigest()}"


@functools.cache
def _own_code() -> list[str]:
    versions = [importlib.metadata.version(name) for name in ("tokenizers", "transformers")]
    return [cache.file_digest(Path(__file__)), *versions]
