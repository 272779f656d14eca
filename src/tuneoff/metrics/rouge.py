"""ROUGE (Lin 2004) through rouge-score-rs, which gives the floats of Google's rouge-score 0.1.2."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from math import fsum
from typing import Literal

from rouge_score_rs import RougeScorer
from rouge_score_rs.tokenizers import CharacterTokenizer, DefaultTokenizer, Tokenizer, UnicodeTokenizer

from tuneoff.metrics.sentences import SENTENCE_RULE_VERSION, sentences
from tuneoff.spec import Words

_PACKAGE = "rouge-score-rs"
_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@dataclass(frozen=True)
class RougeDialect:
    """Every choice that moves a ROUGE value.

    `words`: what is counted. `english`: runs of a-z and 0-9 in lower case, as everybody counts English; `unicode`:
    words of any script by UAX #29 (an ideograph is one); `characters`: letters and digits one by one, as is usual for
    Chinese. `stemmer`: Porter's stemmer on English words of more than three letters. `sentence_split`: how ROUGE-Lsum
    finds sentences: at line breaks (rouge-score's way), or also at punctuation by `sentences`. `multi_reference`:
    `best` takes all four values from the reference with the best ROUGE-1 (the earlier one on a tie); `first` ignores
    every reference but the first, also in the means.
    """

    words: Words = "english"
    stemmer: bool = True
    sentence_split: Literal["newline", "punctuation"] = "newline"
    multi_reference: Literal["best", "first"] = "best"

    def __post_init__(self) -> None:
        if self.stemmer and self.words != "english":
            raise ValueError("the stemmer knows English words alone")

    @classmethod
    def of(cls, words: Words) -> "RougeDialect":
        """The usual dialect for such words: the stemmer knows English alone."""
        return cls(words=words, stemmer=words == "english")

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to what is counted of it."""
        if self.words == "english":
            return DefaultTokenizer(self.stemmer)
        return UnicodeTokenizer() if self.words == "unicode" else CharacterTokenizer()


def signature(dialect: RougeDialect) -> str:
    """The dialect and the package's version on one line, to be printed beside every ROUGE value."""
    split = {"newline": "newline", "punctuation": f"punctuation-v{SENTENCE_RULE_VERSION}"}[dialect.sentence_split]
    reference = {"best": "best-rouge1", "first": "first"}[dialect.multi_reference]
    stemmer = "porter" if dialect.stemmer else "none"
    words = "" if dialect.words == "english" else f"|words:{dialect.words}"  # signatures are older than other words
    return (
        f"{_PACKAGE}:{version(_PACKAGE)}{words}|stemmer:{stemmer}|lsum-sentences:{split}|references:{reference}"
        "|f-measure:x100"
    )


def rouge(prediction: str, references: Sequence[str], dialect: RougeDialect) -> dict[str, float]:
    """F-measures of one text in points (0..100).

    `rouge1`, `rouge2`, `rougeL`, `rougeLsum` come from one and the same reference, chosen by the dialect; the same
    names with `_mean` are means over the references. An empty text scores 0. Raises `ValueError` without a reference.
    """
    scorer = _scorer(_TYPES, dialect)
    candidate = _lines(prediction, dialect)
    per_reference = []
    for reference in _used(references, dialect):
        found = scorer.score(_lines(reference, dialect), candidate)
        per_reference.append({name: 100.0 * found[name].fmeasure for name in _TYPES})
    best = max(per_reference, key=lambda scores: scores["rouge1"])  # the first of equals
    means = {f"{name}_mean": fsum(scores[name] for scores in per_reference) / len(per_reference) for name in _TYPES}
    return best | means


def rouge1(prediction: str, references: Sequence[str], dialect: RougeDialect) -> float:
    """ROUGE-1 alone, as in `rouge`: what the search for an oracle sentence needs."""
    found = _scorer(("rouge1",), dialect).score_multi(list(_used(references, dialect)), prediction)
    return 100.0 * float(found["rouge1"].fmeasure)


def _used(references: Sequence[str], dialect: RougeDialect) -> Sequence[str]:
    if isinstance(references, str) or not references:
        raise ValueError("references is a list of at least one text")
    return references[:1] if dialect.multi_reference == "first" else references


def _lines(text: str, dialect: RougeDialect) -> str:
    """`text` with a line break after every sentence of the dialect."""
    if dialect.sentence_split == "newline":
        return text
    return "\n".join(sentence for line in text.split("\n") for sentence in sentences(line))


@lru_cache
def _scorer(types: tuple[str, ...], dialect: RougeDialect) -> RougeScorer:
    return RougeScorer(list(types), use_stemmer=dialect.stemmer, tokenizer=dialect.tokenizer)
