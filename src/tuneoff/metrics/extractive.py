"""Extractive baselines: sentences of the document itself, for comparison with generated texts."""

from collections.abc import Sequence

from tuneoff.metrics.rouge import RougeDialect, rouge1
from tuneoff.metrics.sentences import split_sentences


def lead(document: str, k: int) -> str:
    """LEAD-k: the first `k` sentences, joined by spaces, or all if the document has fewer.

    Raises `ValueError` if `k` is less than 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    return " ".join(split_sentences(document)[:k])


def oracle_sentence(document: str, references: Sequence[str], dialect: RougeDialect) -> str:
    """The sentence with the best ROUGE-1 against the references; the earlier one on a tie, "" for an empty document.

    It uses the references, so it is an upper bound for copying one sentence, not a usable system.
    """
    return max(split_sentences(document), key=lambda sentence: rouge1(sentence, references, dialect), default="")
