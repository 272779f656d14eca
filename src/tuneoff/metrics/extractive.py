"""What can be had without a model: sentences of the document itself, as rows to compare with."""

from collections.abc import Sequence

from tuneoff.metrics.rouge import RougeDialect, rouge1
from tuneoff.metrics.sentences import sentences

__all__ = ["lead", "oracle_sentence", "sentences"]


def lead(document: str, k: int) -> str:
    """The first `k` sentences joined by spaces; the whole document where it has no more; empty for an empty one."""
    if k < 1:
        raise ValueError("k is at least 1")
    return " ".join(sentences(document)[:k])


def oracle_sentence(document: str, references: Sequence[str], dialect: RougeDialect) -> str:
    """The sentence with the best ROUGE-1 against the references (the earlier one on a tie); empty for an empty
    document. It knows the references: a mark of what one copied sentence can reach, no system that anyone can run."""
    return max(sentences(document), key=lambda sentence: rouge1(sentence, references, dialect), default="")
