"""Documents and their summaries: read, cleaned, split by document. Imports neither torch nor transformers."""

from tuneoff.data.clean import cleaning_report
from tuneoff.data.example import Dataset, Dropped, Example, Split, group_of
from tuneoff.data.load import load
from tuneoff.data.splits import count_documents, take_fraction
from tuneoff.data.starter import starter_location, starter_present
from tuneoff.data.store import Examples

__all__ = [
    "Dataset",
    "Dropped",
    "Example",
    "Examples",
    "Split",
    "cleaning_report",
    "count_documents",
    "group_of",
    "load",
    "starter_location",
    "starter_present",
    "take_fraction",
]
