"""Texts for documents that do not fit into a prompt: one of each part, then one of these texts (map-reduce).

A part ends at the end of a sentence where that is possible. The texts of the parts, in order, are the document of the
next round, until it fits. If a round does not shorten the document, what does not fit is not read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from tuneoff.metrics import split_sentences
from tuneoff.tokenization import tokenize_as_plain_text

if TYPE_CHECKING:
    from tuneoff.data import Example
    from tuneoff.run import Generator, NewText

Long = Literal["cut", "map-reduce"]

CountTokens = Callable[[Sequence[str]], list[int]]


def write_texts(generator: Generator, documents: Sequence[Example], long: Long) -> Iterator[NewText]:
    """One text for each document, in order. References are ignored.

    `cut` reads the beginning of a document that is too long, `map-reduce` reads it in parts.
    """
    if long == "cut":
        yield from generator.write(documents)
        return
    by_id = {document.id: document for document in documents}
    for new in generator.write(documents):
        yield _in_parts(generator, by_id[new.id], new) if new.is_cut else new


def _in_parts(generator: Generator, document: Example, new: NewText) -> NewText:
    """The text for a document of which `new` has read the beginning only."""

    def count(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenize_as_plain_text(generator.base.tokenizer, list(texts))]

    text, last, parts = document.document, new, 0
    while last.is_cut:
        pieces = split_to_fit(text, last.tokens_read, count)
        parts = parts or len(pieces)
        rows = [dataclasses.replace(document, id=str(number), document=piece) for number, piece in enumerate(pieces)]
        shorter = "\n".join(row.text for row in generator.write(rows) if row.text)
        [now] = count([shorter])
        if not 0 < now < last.tokens:
            return dataclasses.replace(last, id=document.id, parts=parts)
        text = shorter
        [last] = generator.write([dataclasses.replace(document, document=text)])
    return dataclasses.replace(last, tokens_read=new.tokens, tokens=new.tokens, parts=parts)


def split_to_fit(text: str, room: int, count: CountTokens) -> list[str]:
    """The sentences of `text` in parts of at most `room` tokens, as few as that takes from left to right.

    `count` gives the tokens of texts. A sentence that is too long is halved at a space until it fits.
    """
    sentences = [
        piece for sentence in split_sentences(text) or [text.strip()] for piece in _halved(sentence, room, count)
    ]
    parts: list[list[str]] = []
    left = 0
    for sentence, tokens in zip(sentences, count([f" {sentence}" for sentence in sentences]), strict=True):
        if not parts or tokens > left:
            parts.append([])
            left = room
        parts[-1].append(sentence)
        left -= tokens
    return [" ".join(part) for part in parts]


def _halved(text: str, room: int, count: CountTokens) -> list[str]:
    if len(text) < 2 or count([f" {text}"])[0] <= room:
        return [text]
    middle = len(text) // 2
    at = text.rfind(" ", 1, middle)
    at = at if at > 0 else middle
    return [*_halved(text[:at].strip(), room, count), *_halved(text[at:].strip(), room, count)]
