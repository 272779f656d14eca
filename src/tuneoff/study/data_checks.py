"""What is known before training about data on which ROUGE would say little: each check returns a caution, or None.

The checks are pure functions of the test examples, and of the lengths of their references in tokens.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tuneoff.data import ColumnsTaken, Example, Split
from tuneoff.stats.power import FEWEST_GROUPS
from tuneoff.text import plural
from tuneoff.verdict.study_size import more_test_documents

# As many test examples as are looked at, evenly spaced.
_SAMPLE = 1000
# From these fractions of the test examples on there is a caution.
_MANY_COPIES = 0.2
_MANY_LONG = 0.1
_MOST_EQUAL = 0.9
# A reference of fewer words (of fewer characters, in scripts without spaces) is found in many documents by chance.
_FEWEST_WORDS = 4
_FEWEST_CHARACTERS = 15
# Fewer different references than this, in this many examples or more, leave nothing to generate.
_FEWEST_TEXTS = 3
_ROUNDED_TO = 16  # tokens


def sample(examples: Sequence[Example]) -> list[Example]:
    """At most 1,000 examples, evenly spaced."""
    step = -(-len(examples) // _SAMPLE) or 1
    return [examples[index] for index in range(0, len(examples), step)]


def copied_references(examples: Iterable[Example]) -> str | None:
    """Whether many documents contain one of their references word for word, so that a copy scores 100."""
    checked = found = 0
    for example in examples:
        checked += 1
        document = _plain(example.document)
        found += any(_is_long_enough(text) and text in document for text in map(_plain, example.references))
    if not checked or found < _MANY_COPIES * checked:
        return None
    return (
        f"in {_percent(found, checked)} of the test documents a reference stands word for word, so a text that is "
        "copied from the document scores 100 and ROUGE says little; if the documents should not contain the text "
        "wanted, remove it there or name another --document-column"
    )


def equal_references(examples: Sequence[Example]) -> str | None:
    """Whether (nearly) all references are one text, or so few texts that a model can only choose among them."""
    counts = Counter(_plain(text) for example in examples for text in example.references[:1])
    if len(examples) < 2 or not counts:
        return None
    [(_, most)] = counts.most_common(1)
    if len(counts) == 1:
        return (
            f"all {len(examples)} test references are the same text, so a model that always writes it scores 100; "
            "check --summary-column"
        )
    if most >= _MOST_EQUAL * len(examples):
        return (
            f"{_percent(most, len(examples))} of the test references are the same text, so a model that always writes "
            "it scores high; check --summary-column"
        )
    if len(counts) < _FEWEST_TEXTS and len(examples) >= FEWEST_GROUPS:
        return (
            f"the {len(examples)} test references are only {len(counts)} different texts: this is a choice among "
            "labels, which ROUGE does not measure; check --summary-column"
        )
    return None


def long_references(lengths: Sequence[int], max_new_tokens: int, max_length: int) -> str | None:
    """Whether many references are longer than what is generated. `lengths`: tokens of the shortest of each example."""
    longer = sum(length > max_new_tokens for length in lengths)
    if not lengths or longer <= _MANY_LONG * len(lengths):
        return None
    ordered = sorted(lengths)
    median = ordered[len(ordered) // 2]
    enough = _ROUNDED_TO * math.ceil(ordered[math.ceil(0.95 * len(ordered)) - 1] / _ROUNDED_TO)
    return (
        f"{_percent(longer, len(lengths))} of the test references are longer than --max-new-tokens {max_new_tokens} "
        f"(median {median} tokens), so ROUGE is capped; raise it to {enough}, and --max-length to "
        f"{max_length + enough - max_new_tokens} for documents as long as now"
    )


def may_be_longer(examples: Iterable[Example], max_new_tokens: int) -> bool:
    """Whether a reference can have more tokens than that, by its bytes: a token has one or more of them."""
    return any(len(text.encode()) > max_new_tokens for example in examples for text in example.references)


def few_documents(documents: int, examples: int, *, held_out: bool, limit: int | None) -> str | None:
    """Whether there are too few test documents for any verdict; the arguments are those of `more_test_documents`."""
    if documents >= FEWEST_GROUPS:
        return None
    return (
        f"only {plural(documents, 'test document')}: with fewer than {FEWEST_GROUPS} no difference between methods is "
        f"reported; {more_test_documents(examples, held_out=held_out, limit=limit)}"
    )


def columns_line(columns: Mapping[Split, ColumnsTaken]) -> str | None:
    """Which columns were taken; splits that took the same ones share a part. None if that is not known."""
    said: dict[str, list[str]] = {}
    for split, taken in columns.items():
        below = "" if taken.added_to_document is None else f"+{taken.added_to_document}"
        parts = [f"document={taken.document}{below}", f"summary={'+'.join(taken.summary)}"]
        parts += [f"fields={'+'.join(taken.fields)}"] if taken.fields else []
        parts += [f"passed over: {', '.join(taken.passed_over)}"] if taken.passed_over else []
        said.setdefault(", ".join(parts), []).append(split)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{' and '.join(splits)}: {line}" for line, splits in said.items()) or None


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _is_long_enough(text: str) -> bool:
    words = len(text.split())
    return words >= _FEWEST_WORDS or (words == 1 and len(text) >= _FEWEST_CHARACTERS and not text.isascii())


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"
