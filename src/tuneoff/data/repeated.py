"""Documents that come in several rows, each with another summary: their rows as the references of one example."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tuneoff.data.example import Example
from tuneoff.data.stored_examples import StoredExamples


def with_references_joined(examples: StoredExamples, used_fields: Sequence[str]) -> Iterator[Example]:
    """One example for all rows of a document that give the same prompt, in the order of their first rows.

    `used_fields` are those of the instruction: rows that differ in one of them ask for different texts. The example has
    id and fields of the first row, and the references of all.
    """
    first_of_group: set[int] = set()
    positions = _positions_by_group(examples)
    for group in examples.groups.tolist():
        if group in first_of_group:
            continue
        first_of_group.add(group)
        by_prompt: dict[tuple[str | None, ...], list[Example]] = {}
        for position in positions[group]:
            example = examples[position]
            by_prompt.setdefault(_prompt_of(example, used_fields), []).append(example)
        for rows in by_prompt.values():
            references = dict.fromkeys(reference for row in rows for reference in row.references)
            yield replace(rows[0], references=tuple(references))


def count_repeated(examples: StoredExamples, used_fields: Sequence[str]) -> int:
    """The number of documents with several rows that give the same prompt but have different summaries."""
    groups, sizes = np.unique(examples.groups, return_counts=True)
    several = {*groups[sizes > 1].tolist()}
    return sum(
        _have_other_references([examples[position] for position in found], used_fields)
        for group, found in _positions_by_group(examples).items()
        if group in several
    )


def _have_other_references(rows: Sequence[Example], used_fields: Sequence[str]) -> bool:
    first: dict[tuple[str | None, ...], tuple[str, ...]] = {}
    return any(first.setdefault(_prompt_of(row, used_fields), row.references) != row.references for row in rows)


def _positions_by_group(examples: StoredExamples) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for position, group in enumerate(examples.groups.tolist()):
        found.setdefault(group, []).append(position)
    return found


def _prompt_of(example: Example, used_fields: Sequence[str]) -> tuple[str | None, ...]:
    return (example.document, *(example.fields.get(name) for name in used_fields))
