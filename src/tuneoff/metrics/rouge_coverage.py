"""Checks how much of the references a ROUGE dialect can count: another script or other letters may be lost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tuneoff.metrics.reference_free import split_words
from tuneoff.metrics.rouge import RougeDialect

# If this fraction of the texts scores 0 because of its script alone, every mean is a twentieth too low.
_MAX_UNSCORABLE = 0.05
# English abstracts are far below: they have a foreign name or sign now and then.
_MAX_LOST_WORDS = 0.01


@dataclass(frozen=True)
class RougeCoverage:
    """How much of the references a dialect counts.

    Of `examples`, `unscorable` have no reference with a word that counts, so every text scores 0. Of `words` (of any
    script), `lost` have a letter that the dialect does not count: it drops them or splits them at that letter.
    """

    dialect: RougeDialect
    examples: int
    unscorable: int
    words: int
    lost: int

    @property
    def caution(self) -> str | None:
        """A message for the user; None if enough is counted."""
        if self.unscorable > _MAX_UNSCORABLE * self.examples:
            count = f"{self.unscorable} of {self.examples} test examples"
            if self.dialect.words != "english":
                return f"{count} have no summary with a letter or digit, so every text scores 0 on them"
            return (
                f"{count} have no summary with a word that this ROUGE counts (a-z and 0-9 only), so every text scores "
                "0 on them; --rouge-words unicode counts words of any script"
            )
        if self.lost > _MAX_LOST_WORDS * self.words:
            return (
                f"{100 * self.lost / self.words:.1f} % of the words in test summaries have letters other than a-z, "
                "and this ROUGE splits words at them; --rouge-words unicode counts such words whole"
            )
        return None


def rouge_coverage(references: Iterable[Sequence[str]], dialect: RougeDialect) -> RougeCoverage:
    """How much `dialect` counts of the references of test examples."""
    tokenizer = dialect.tokenizer
    examples = unscorable = total = lost = 0
    for texts in references:
        examples += 1
        unscorable += not any(tokenizer.tokenize(text) for text in texts)
        if dialect.words == "english":
            found = [word for text in texts for word in split_words(text)]
            total += len(found)
            lost += sum(any(letter.isalnum() and not letter.isascii() for letter in word) for word in found)
    return RougeCoverage(dialect, examples, unscorable, total, lost)
