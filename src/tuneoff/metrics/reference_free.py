"""Metrics that need no reference: novelty, copying, repetition, and unsupported numbers and names.

Most compare a text with its document.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from rouge_score_rs.tokenizers import UnicodeTokenizer

from tuneoff.metrics.sentences import split_sentences

NOVELTY_WORDS = 2
REPETITION_WORDS = 3
COPY_WORDS = 4

_TOKENIZER = UnicodeTokenizer()
# Digits with inner `,` and `.`, but not after a letter (the 2 of "GPT2" belongs to a name).
_NUMBER = re.compile(r"(?<![^\W_])\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
# Without "one": as a pronoun it is in most documents, and would support every 1.
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
_STARTS_QUOTE_OR_CLAUSE = re.compile(r"[:;\"“”«»]")


def split_words(text: str) -> list[str]:
    """Words by the boundaries of Unicode UAX #29, normalized by NFKC and case-folded.

    Chinese and Japanese ideographs are one word each. A hyphen separates words; an inner apostrophe or decimal point
    does not.
    """
    found: list[str] = _TOKENIZER.tokenize(text.replace("’", "'"))
    return found


def novelty(text_words: Sequence[str], document_words: Sequence[str]) -> float | None:
    """The fraction (0..1) of the text's distinct word pairs that are not in the document.

    These are the novel n-grams of See et al. 2017 and Narayan et al. 2018. None for a text of fewer than two words.
    """
    own = set(_word_runs(text_words, NOVELTY_WORDS))
    if not own:
        return None
    return len(own.difference(_word_runs(document_words, NOVELTY_WORDS))) / len(own)


def copy_rate(text_words: Sequence[str], document_words: Sequence[str]) -> float | None:
    """The fraction (0..1) of the text's words inside runs of at least `COPY_WORDS` words copied from the document.

    This is the coverage of Grusky et al. 2018 without short fragments, which match by chance. None for a text of fewer
    than `COPY_WORDS` words.
    """
    if len(text_words) < COPY_WORDS:
        return None
    source = set(_word_runs(document_words, COPY_WORDS))
    covered = 0
    end = 0  # the first position that is not yet counted
    for start, run in enumerate(_word_runs(text_words, COPY_WORDS)):
        if run in source:
            covered += start + COPY_WORDS - max(start, end)
            end = start + COPY_WORDS
    return covered / len(text_words)


def repetition(text_words: Sequence[str]) -> float | None:
    """The fraction (0..1) of the text's runs of `REPETITION_WORDS` words that repeat an earlier run.

    This is seq-rep-n of Welleck et al. 2020: 1 - distinct / all. None for a text of fewer than `REPETITION_WORDS`
    words.
    """
    runs = list(_word_runs(text_words, REPETITION_WORDS))
    return 1 - len(set(runs)) / len(runs) if runs else None


def unsupported_numbers(text: str, document: str) -> float | None:
    """The number of distinct numbers of the text that are not in the document.

    `1,000` equals `1000` and `0.50` equals `0.5`. The English words two to twelve of the document count as digits.
    None for a text without a word.
    """
    if not split_words(text):
        return None
    own = set(_numbers(text))
    if own:
        own.difference_update(_numbers(document))
    if own:
        own.difference_update(_NUMBER_WORDS.get(word, "") for word in split_words(document))
    return float(len(own))


def unsupported_names(text: str, document: str) -> float | None:
    """The number of distinct names of the text that are not in the document. Case does not matter there.

    A name is a word of at least two characters with a capital after its first letter (BERT, LoRA), or with a capital as
    its first letter unless it starts a sentence, a quotation or the part after a colon. No language model is used. None
    for a text without a letter that has upper and lower case.
    """
    if not any(letter.islower() or letter.isupper() for letter in text):
        return None
    own = {name.casefold() for sentence in split_sentences(text) for name in _names(sentence)}
    if own:
        own.difference_update(word.casefold() for word in _LETTERS.findall(document))
    return float(len(own))


def _word_runs(items: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    if size == 2:
        return pairwise(items)
    return zip(*(items[shift:] for shift in range(size)), strict=False)


def _numbers(text: str) -> Iterator[str]:
    """Normalized numbers: without thousands commas, with a decimal point, without leading or trailing zeros."""
    for found in _NUMBER.findall(text):
        plain = found.replace(",", "") if _THOUSANDS.fullmatch(found) else found.replace(",", ".")
        whole, point, fraction = plain.partition(".")
        fraction = fraction if "." in fraction else fraction.rstrip("0")  # 1.2.0 is a version, not a decimal
        yield (whole.lstrip("0") or "0") + (point + fraction if fraction else "")


def _names(sentence: str) -> Iterator[str]:
    end = 0
    for match in _LETTERS.finditer(sentence):
        word = match.group()
        starts = end == 0 or _STARTS_QUOTE_OR_CLAUSE.search(sentence, end, match.start()) is not None
        end = match.end()
        rest = word[1:]
        if rest and (rest != rest.lower() or (word[0].isupper() and not starts)):
            yield word
