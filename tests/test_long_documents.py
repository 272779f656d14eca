"""Documents that are longer than the prompt: where they are split, and what is made of the parts."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneoff import models
from tuneoff.data import Example
from tuneoff.long_documents import split_to_fit, write_texts
from tuneoff.run import Generator, NewText
from tuneoff.spec import ModelSpec


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def characters(texts: Sequence[str]) -> list[int]:
    return [len(text.strip()) for text in texts]


def test_parts_end_at_the_end_of_a_sentence() -> None:
    text = "One two three. Four five. Six seven eight nine. Ten."
    assert split_to_fit(text, 5, words) == ["One two three. Four five.", "Six seven eight nine. Ten."]


def test_a_sentence_that_is_too_long_is_halved_at_a_space() -> None:
    parts = split_to_fit("One two three four five six seven. Eight.", 4, words)
    assert parts == ["One two three", "four five six seven.", "Eight."]
    assert split_to_fit("abcdefgh", 3, characters) == ["ab", "cd", "ef", "gh"]


@given(st.text(alphabet="ab. \n", min_size=1, max_size=80), st.integers(1, 9))
def test_no_part_is_too_long_and_no_word_is_lost(text: str, room: int) -> None:
    parts = split_to_fit(text, room, characters)
    assert all(len(part) <= room for part in parts if " " not in part)
    kept = "".join("".join(parts).split())
    assert [sign for sign in kept if sign in "ab"] == [sign for sign in text if sign in "ab"]


class Shortener:
    """A generator whose text for a document is its first words; it reads `room` words."""

    def __init__(self, tokenizer: Any, room: int, words_written: int) -> None:
        self.base = SimpleNamespace(tokenizer=tokenizer)
        self.room, self.words_written = room, words_written
        self.read: list[str] = []

    def write(self, documents: Sequence[Example]) -> Iterator[NewText]:
        for document in documents:
            tokens = len(self.base.tokenizer(document.document)["input_ids"])
            self.read.append(document.document)
            text = " ".join(document.document.split()[: self.words_written])
            yield NewText(document.id, text, min(tokens, self.room), tokens)


@pytest.fixture
def tokenizer(tiny_model: Callable[[str], Path]) -> Any:
    return models.load_tokenizer(ModelSpec(name=str(tiny_model("llama"))))


def test_the_text_of_a_long_document_is_made_of_the_texts_of_its_parts(tokenizer: Any) -> None:
    sentences = [f"The result {index} of this paper is new." for index in range(12)]
    long, short = Example("a", " ".join(sentences), (), ""), Example("b", "A short one.", (), "")
    generator = Shortener(tokenizer, room=60, words_written=3)
    first, second = write_texts(cast(Generator, generator), [long, short], "map-reduce")
    assert (second.id, second.parts, second.is_cut) == ("b", 0, False)
    assert (first.id, first.text, first.is_cut) == ("a", "The result 0", False)
    assert first.parts > 2
    pieces = generator.read[1 : 1 + first.parts]
    assert " ".join(pieces) == long.document
    assert "The result 0\nThe result" in generator.read[1 + first.parts]


def test_cut_reads_the_beginning_only(tokenizer: Any) -> None:
    generator = Shortener(tokenizer, room=10, words_written=3)
    [new] = write_texts(cast(Generator, generator), [Example("a", "word " * 50, (), "")], "cut")
    assert new.is_cut
    assert len(generator.read) == 1


def test_a_model_that_shortens_nothing_ends_the_rounds(tokenizer: Any) -> None:
    generator = Shortener(tokenizer, room=10, words_written=1000)
    [new] = write_texts(cast(Generator, generator), [Example("a", "word " * 50, (), "")], "map-reduce")
    assert new.is_cut
    assert new.parts > 1
