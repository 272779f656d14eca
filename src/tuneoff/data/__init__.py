"""Documents and their summaries: read, cleaned and split by document. Imports neither torch nor transformers."""

from tuneoff.data.clean import cleaning_report
from tuneoff.data.example import ColumnsTaken, Dataset, DroppedRow, Example, Split, group_id
from tuneoff.data.in_memory import write_rows
from tuneoff.data.load import load_dataset
from tuneoff.data.splits import count_documents, take_documents, take_fraction
from tuneoff.data.starter import starter_location, starter_present
from tuneoff.data.stored_examples import StoredExamples

__all__ = [
    "ColumnsTaken",
    "Dataset",
    "DroppedRow",
    "Example",
    "Split",
    "StoredExamples",
    "cleaning_report",
    "count_documents",
    "group_id",
    "load_dataset",
    "starter_location",
    "starter_present",
    "take_documents",
    "take_fraction",
    "write_rows",
]
