"""How large a study was made, and what to type for one that is large enough for a verdict."""

from collections.abc import Iterable
from dataclasses import dataclass

from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StoredStudy
from tuneoff.stats.power import FEWEST_GROUPS


@dataclass(frozen=True)
class StudySize:
    """What a study was made of, besides its test documents and seeds."""

    examples: int
    """Pairs of document and text in all three splits; 0 if unknown."""
    steps: int
    """Most optimiser steps of a run; 0 if nothing was trained."""
    held_out: bool
    """Whether the test documents are taken from the training file."""
    test_limit: int | None = None
    """Test documents that the study allows."""


def study_size(study: StoredStudy, records: Iterable[Record]) -> StudySize:
    """The size of a stored study; `records` are those that are compared."""
    data = study.spec.data if study.spec else None
    return StudySize(
        examples=sum(study.data.counts.values()),
        steps=max((record.curve.steps for record in records), default=0),
        held_out=data is not None and data.source is None and data.test_file is None,
        test_limit=data.max_test_documents if data else None,
    )


def more_test_documents(examples: int, *, held_out: bool, limit: int | None) -> str:
    """What to type for a test set that is large enough; the arguments are the fields of `StudySize`."""
    if limit is not None and limit < FEWEST_GROUPS:
        return f"raise --max-test-documents {limit} to {FEWEST_GROUPS} or more"
    if not held_out:
        return f"give a --test-file with {FEWEST_GROUPS} documents or more"
    half = examples // 2
    if half < FEWEST_GROUPS:
        return f"collect {2 * FEWEST_GROUPS} rows or more, and add --test-share 0.5"
    return f"with {examples} rows, add --test-share 0.5, which tests on about {half}"
