"""ROUGE (Lin 2004), computed by rouge-score-rs, whose values equal those of Google's rouge-score 0.1.2."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from math import fsum
from typing import Literal

from rouge_score_rs import RougeScorer
from rouge_score_rs.tokenizers import CharacterTokenizer, DefaultTokenizer, Tokenizer, UnicodeTokenizer

from tuneoff.metrics.sentences import SENTENCE_RULE_VERSION, split_sentences
from tuneoff.spec import RougeWords

_PACKAGE = "rouge-score-rs"
_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ROUGE_NAMES = (*_TYPES, *(f"{name}_mean" for name in _TYPES))


@dataclass(frozen=True)
class RougeDialect:
    """Every choice that changes a ROUGE value.

    `words` are the units that are counted. `english`: runs of a-z and 0-9 in lower case, the common choice for English.
    `unicode`: words of any script by UAX #29; an ideograph is one word. `characters`: single letters and digits, common
    for Chinese.

    `stemmer` is Porter's stemmer for English words of more than three letters.

    `sentence_split` is where ROUGE-Lsum splits sentences. `newline`: at line breaks, as rouge-score does.
    `punctuation`: at the sentence ends of `split_sentences` too.

    `multi_reference` is the use of several references. `best`: all four values come from the reference with the best
    ROUGE-1, the earlier one on a tie. `first`: only the first reference counts, for the means too.
    """

    words: RougeWords = "english"
    stemmer: bool = True
    sentence_split: Literal["newline", "punctuation"] = "newline"
    multi_reference: Literal["best", "first"] = "best"

    def __post_init__(self) -> None:
        if self.stemmer and self.words != "english":
            raise ValueError("the stemmer is for English words only; set stemmer=False")

    @classmethod
    def of(cls, words: RougeWords) -> "RougeDialect":
        """The default dialect for such words: with the stemmer for English, without it otherwise."""
        return cls(words=words, stemmer=words == "english")

    @property
    def tokenizer(self) -> Tokenizer:
        """Splits a text into the words that are counted."""
        if self.words == "english":
            return DefaultTokenizer(self.stemmer)
        return UnicodeTokenizer() if self.words == "unicode" else CharacterTokenizer()


def rouge_signature(dialect: RougeDialect) -> str:
    """The dialect and the version of the package on one line, to report with every ROUGE value."""
    split = {"newline": "newline", "punctuation": f"punctuation-v{SENTENCE_RULE_VERSION}"}[dialect.sentence_split]
    reference = {"best": "best-rouge1", "first": "first"}[dialect.multi_reference]
    stemmer = "porter" if dialect.stemmer else "none"
    words = "" if dialect.words == "english" else f"|words:{dialect.words}"  # older signatures are of English only
    return (
        f"{_PACKAGE}:{version(_PACKAGE)}{words}|stemmer:{stemmer}|lsum-sentences:{split}|references:{reference}"
        "|f-measure:x100"
    )


def rouge(prediction: str, references: Sequence[str], dialect: RougeDialect) -> dict[str, float]:
    """F-measures of one text in points (0..100).

    `rouge1`, `rouge2`, `rougeL` and `rougeLsum` come from the same reference, chosen by the dialect. The same names
    with `_mean` are means over the references. An empty text scores 0. Raises `ValueError` if there is no reference.
    """
    scorer = _scorer(_TYPES, dialect)
    candidate = _split_for_lsum(prediction, dialect)
    per_reference = []
    for reference in _references_to_use(references, dialect):
        found = scorer.score(_split_for_lsum(reference, dialect), candidate)
        per_reference.append({name: 100.0 * found[name].fmeasure for name in _TYPES})
    best = max(per_reference, key=lambda scores: scores["rouge1"])  # the first one on a tie
    means = {f"{name}_mean": fsum(scores[name] for scores in per_reference) / len(per_reference) for name in _TYPES}
    return best | means


def rouge1(prediction: str, references: Sequence[str], dialect: RougeDialect) -> float:
    """The `rouge1` of `rouge` alone, which is faster."""
    found = _scorer(("rouge1",), dialect).score_multi(list(_references_to_use(references, dialect)), prediction)
    return 100.0 * float(found["rouge1"].fmeasure)


def _references_to_use(references: Sequence[str], dialect: RougeDialect) -> Sequence[str]:
    if isinstance(references, str) or not references:
        raise ValueError("references must be a list of at least one text")
    return references[:1] if dialect.multi_reference == "first" else references


def _split_for_lsum(text: str, dialect: RougeDialect) -> str:
    """`text` with a line break after every sentence of the dialect."""
    if dialect.sentence_split == "newline":
        return text
    return "\n".join(sentence for line in text.split("\n") for sentence in split_sentences(line))


@lru_cache
def _scorer(types: tuple[str, ...], dialect: RougeDialect) -> RougeScorer:
    return RougeScorer(list(types), use_stemmer=dialect.stemmer, tokenizer=dialect.tokenizer)
