"""Summaries of which a ROUGE dialect sees little: another script, letters beyond a-z."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tuneoff.metrics.rouge import RougeDialect
from tuneoff.metrics.reference_free import words

# So many texts that score 0 for their script alone pull every mean down by a twentieth.
_WORDLESS_SHARE = 0.05
# English abstracts stay far below: a name or a sign now and then.
_LOST_SHARE = 0.01


@dataclass(frozen=True)
class Unread:
    """By `dialect`, `wordless` of `examples` have no reference with a word that counts: they score 0 whatever is
    written. `lost` of all `words` (of any script) are not counted as they stand: left out, or cut at a letter."""

    dialect: RougeDialect
    examples: int
    wordless: int
    words: int
    lost: int

    @property
    def caution(self) -> str | None:
        """What to tell a person; None where nothing is amiss."""
        if self.wordless > _WORDLESS_SHARE * self.examples:
            said = f"{self.wordless} of {self.examples} test examples have no summary"
            if self.dialect.words != "english":
                return f"{said} with a letter or digit: they score 0 whatever is written"
            return (
                f"{said} with a word that this ROUGE counts (a-z and 0-9 alone): they score 0 whatever is written; "
                "--rouge-words unicode counts words of any script"
            )
        if self.lost > _LOST_SHARE * self.words:
            return (
                f"{100 * self.lost / self.words:.1f} % of the words in test summaries have letters beyond a-z, at "
                "which this ROUGE cuts them; --rouge-words unicode counts them whole"
            )
        return None


def unread(references: Iterable[Sequence[str]], dialect: RougeDialect) -> Unread:
    """What `dialect` does not see of the references of test examples."""
    tokenizer = dialect.tokenizer
    examples = wordless = total = lost = 0
    for texts in references:
        examples += 1
        wordless += not any(tokenizer.tokenize(text) for text in texts)
        if dialect.words == "english":
            found = [word for text in texts for word in words(text)]
            total += len(found)
            lost += sum(any(letter.isalnum() and not letter.isascii() for letter in word) for word in found)
    return Unread(dialect, examples, wordless, total, lost)
