"""What a data set is like: lengths, languages, repeats, references. Known before training, from a sample of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import TYPE_CHECKING, Literal, get_args

from tuneoff.data import Dataset, Example, Split
from tuneoff.data.clean import DUPLICATE, IN_ANOTHER_SPLIT
from tuneoff.data.languages import WITHOUT_SPACES, language_of
from tuneoff.errors import UserError
from tuneoff.metrics.sentences import split_sentences
from tuneoff.prompts import Prompter
from tuneoff.spec import StudySpec
from tuneoff.study import planner
from tuneoff.study.data_checks import sample
from tuneoff.text import plural
from tuneoff.tokenization import tokenize_as_plain_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST = 0.95  # of the texts are at most as long as `Lengths.most`
_MOST_CHARACTERS = 10_000_000
Unit = Literal["token", "character"]


@dataclass(frozen=True)
class Lengths:
    """Lengths of texts, in the unit of the facts."""

    median: int
    most: int
    """95 % of the texts are at most as long."""
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Lengths:
        """Those of one text or more."""
        ordered = sorted(lengths)
        return cls(median_low(ordered), ordered[math.ceil(MOST * len(ordered)) - 1], ordered[-1])


@dataclass(frozen=True)
class DataFacts:
    """What is known of the texts of a data set, mostly from a sample of at most 1,000 training examples."""

    unit: Unit
    """Characters without a tokenizer."""
    documents: Lengths
    wanted: Lengths
    """Of the first reference of each example."""
    wanted_words: int
    """Median number of words of a wanted text."""
    wanted_sentences: int
    """The same for sentences."""
    wanted_texts: int
    """Different ones in the sample."""
    sampled: int
    language: str | None
    """Of the documents; None if it is not clear."""
    wanted_language: str | None
    duplicates: int
    """Rows that are an earlier row again."""
    in_two_splits: int
    """Rows whose document is in another split too."""
    several_references: float
    """Fraction of the test examples that have several references."""
    cut: float | None = None
    """Fraction of the documents that are truncated with the settings of the study; None without a tokenizer."""
    frame: int | None = None
    """Tokens of a prompt without its document; of the longest one, if it has fields."""


def look_at_texts(study: StudySpec, dataset: Dataset, tokenizer: PreTrainedTokenizerBase | None) -> DataFacts:
    """The facts about the training data, and how much of the test data has several references.

    `tokenizer` is that of the base model; None: lengths are in characters.
    """
    examples = _readable(sample(dataset.train))
    test = sample(dataset.test)
    documents = [example.document for example in examples]
    wanted = [example.references[0] for example in examples]
    if tokenizer is None:
        lengths = [[len(text) for text in texts] for texts in (documents, wanted)]
    else:
        lengths = [list(map(len, tokenize_as_plain_text(tokenizer, texts))) for texts in (documents, wanted)]
    elsewhere = {IN_ANOTHER_SPLIT.format(split=split) for split in get_args(Split)}
    cut, frame = (None, None) if tokenizer is None else _fit(study, examples, tokenizer, lengths[0])
    return DataFacts(
        unit="character" if tokenizer is None else "token",
        documents=Lengths.of(lengths[0]),
        wanted=Lengths.of(lengths[1]),
        wanted_words=median_low(sorted(len(text.split()) for text in wanted)),
        wanted_sentences=median_low(sorted(max(1, len(split_sentences(text))) for text in wanted)),
        wanted_texts=len({" ".join(text.split()).casefold() for text in wanted}),
        sampled=len(examples),
        language=language_of(documents),
        wanted_language=language_of(wanted),
        duplicates=sum(row.reason == DUPLICATE for row in dataset.dropped),
        in_two_splits=sum(row.reason in elsewhere for row in dataset.dropped),
        several_references=sum(len(example.references) > 1 for example in test) / len(test),
        cut=cut,
        frame=frame,
    )


def _readable(examples: Sequence[Example]) -> list[Example]:
    """Evenly spaced examples with not more than `_MOST_CHARACTERS`, which are tokenized in seconds; at least one."""
    characters = sum(len(example.document) for example in examples)
    return list(examples[:: math.ceil(characters / _MOST_CHARACTERS) or 1])


def _fit(
    study: StudySpec, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, lengths: Sequence[int]
) -> tuple[float | None, int | None]:
    """The fraction of documents that is truncated, and the tokens around a document; None if no prompt is possible."""
    prompter = Prompter(
        tokenizer,
        study.prompt,
        max_new_tokens=study.generate.max_new_tokens,
        reserved_tokens=planner.reserved_tokens(study),
    )
    try:
        rows, overlong = prompter.encode(examples, with_target=False)
    except UserError:  # said by whoever checks prompts
        return None, None
    frame = int((rows.lengths - rows.document_tokens).max()) if len(rows) else None
    return (int((rows.truncated_tokens > 0).sum()) + len(overlong)) / max(1, len(lengths)), frame


def fact_lines(facts: DataFacts) -> Iterator[str]:
    """The facts in words, one line each."""
    yield f"documents: {_lengths(facts.documents, facts.unit)}{_in_language(facts.language)}"
    size = plural(facts.wanted_sentences, "sentence")
    if facts.wanted_language not in WITHOUT_SPACES:
        size += f", {plural(facts.wanted_words, 'word')}"
    yield f"wanted texts: {_lengths(facts.wanted, facts.unit)}; usually {size}{_in_language(facts.wanted_language)}"
    if facts.cut:
        yield f"{_percent(facts.cut)} of the documents are longer than the prompt allows and are truncated"
    if facts.wanted_texts < facts.sampled:
        yield f"{facts.wanted_texts:,} of {facts.sampled:,} wanted texts are different"
    if facts.duplicates or facts.in_two_splits:
        twice = f"{plural(facts.duplicates, 'row')} a second time" if facts.duplicates else ""
        elsewhere = f"{plural(facts.in_two_splits, 'row')} whose document is in another split"
        yield f"duplicates: {', '.join(filter(None, (twice, elsewhere if facts.in_two_splits else '')))}"
    if facts.several_references:
        yield f"{_percent(facts.several_references)} of the test examples have several references"


def _lengths(lengths: Lengths, unit: Unit) -> str:
    return f"median {lengths.median:,} {unit}s, 95 % have at most {lengths.most:,}, the longest {lengths.longest:,}"


def _in_language(language: str | None) -> str:
    return "" if language is None else f", in {language}"


def _percent(share: float) -> str:
    return "less than 1 %" if share < 0.005 else f"{100 * share:.0f} %"
