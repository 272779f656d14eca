"""What a text is like beside its document, with no reference: length, novelty, copying, repetition, inventions."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from rouge_score_rs.tokenizers import UnicodeTokenizer

from tuneoff.metrics.sentences import sentences

NOVELTY_WORDS = 2
REPETITION_WORDS = 3
COPY_WORDS = 4

_TOKENIZER = UnicodeTokenizer()
# Digits with inner `,` and `.`; not when a letter stands before them (the 2 of "GPT2" belongs to a name).
_NUMBER = re.compile(r"(?<![^\W_])\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
# "one" is missing on purpose: as a pronoun it stands in most documents and would support every 1.
_NUMBER_WORDS = {
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
    "eleven": "11",
    "twelve": "12",
}
_LETTERS = re.compile(r"[^\W_]+")
_STARTS_AFTER = re.compile(r"[:;\"“”«»]")


def words(text: str) -> list[str]:
    """Words by the boundaries of Unicode UAX #29, compatibility-normalised (NFKC) and case-folded. Chinese and
    Japanese ideographs are one word each; a hyphen separates, an apostrophe or a decimal point inside does not."""
    found: list[str] = _TOKENIZER.tokenize(text.replace("’", "'"))
    return found


def length(text: str) -> float:
    """Number of words; 0 for an empty text."""
    return float(len(words(text)))


def novelty(text_words: Sequence[str], document_words: Sequence[str]) -> float | None:
    """Share (0..1) of the text's distinct word pairs that do not stand in the document, after the novel n-grams of
    See et al. 2017 and Narayan et al. 2018. None for a text of fewer than two words."""
    own = set(_runs(text_words, NOVELTY_WORDS))
    if not own:
        return None
    return len(own.difference(_runs(document_words, NOVELTY_WORDS))) / len(own)


def copy_rate(text_words: Sequence[str], document_words: Sequence[str]) -> float | None:
    """Share (0..1) of the text's words that lie inside a run of at least `COPY_WORDS` consecutive words that stands
    in the document word for word: the coverage of Grusky et al. 2018 without fragments that short words make by
    chance. None for a text of fewer words than that."""
    if len(text_words) < COPY_WORDS:
        return None
    source = set(_runs(document_words, COPY_WORDS))
    covered = 0
    end = 0  # first position not yet counted
    for start, run in enumerate(_runs(text_words, COPY_WORDS)):
        if run in source:
            covered += start + COPY_WORDS - max(start, end)
            end = start + COPY_WORDS
    return covered / len(text_words)


def repetition(text_words: Sequence[str]) -> float | None:
    """Share (0..1) of the text's runs of `REPETITION_WORDS` words that repeat an earlier one: 1 - distinct / all
    (seq-rep-n of Welleck et al. 2020). None for a text of fewer words than that."""
    runs = list(_runs(text_words, REPETITION_WORDS))
    return 1 - len(set(runs)) / len(runs) if runs else None


def unsupported_numbers(text: str, document: str) -> float | None:
    """How many distinct numbers of the text do not stand in the document. `1,000` equals `1000`, `0.50` equals
    `0.5`, and the document's English words two .. twelve count as digits. None for a text without a word."""
    if not words(text):
        return None
    own = set(_numbers(text))
    if own:
        own.difference_update(_numbers(document))
    if own:
        own.difference_update(_NUMBER_WORDS.get(word, "") for word in words(document))
    return float(len(own))


def unsupported_names(text: str, document: str) -> float | None:
    """How many distinct names of the text do not stand in the document, whatever their case there.

    A name is a word of two or more characters with a capital behind its first letter (BERT, LoRA), or with a capital
    first letter that does not open a sentence, a quotation or what follows a colon. No language model is asked.
    None for a text without a letter that has case.
    """
    if not any(letter.islower() or letter.isupper() for letter in text):
        return None
    own = {name.casefold() for sentence in sentences(text) for name in _names(sentence)}
    if own:
        own.difference_update(word.casefold() for word in _LETTERS.findall(document))
    return float(len(own))


def _runs(items: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    if size == 2:
        return pairwise(items)
    return zip(*(items[shift:] for shift in range(size)), strict=False)


def _numbers(text: str) -> Iterator[str]:
    """Numbers in one form: no thousands commas, a point for decimals, no idle zeros."""
    for found in _NUMBER.findall(text):
        plain = found.replace(",", "") if _THOUSANDS.fullmatch(found) else found.replace(",", ".")
        whole, point, fraction = plain.partition(".")
        fraction = fraction if "." in fraction else fraction.rstrip("0")  # 1.2.0 is a version, not a decimal
        yield (whole.lstrip("0") or "0") + (point + fraction if fraction else "")


def _names(sentence: str) -> Iterator[str]:
    end = 0
    for match in _LETTERS.finditer(sentence):
        word = match.group()
        opens = end == 0 or _STARTS_AFTER.search(sentence, end, match.start()) is not None
        end = match.end()
        rest = word[1:]
        if rest and (rest != rest.lower() or (word[0].isupper() and not opens)):
            yield word
