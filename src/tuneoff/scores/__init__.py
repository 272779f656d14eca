"""Scores that other programs wrote, one for each system, item and seed: read, checked and put into one table.

Imports no torch. A format is one module and one line in `formats`.
"""

from tuneoff.scores.formats import FORMATS
from tuneoff.scores.frames import read_score_rows
from tuneoff.scores.reading import is_score_source, read_score_files
from tuneoff.scores.score_columns import ScoreColumns
from tuneoff.scores.score_data import ScoreData, ScoreRow

__all__ = [
    "FORMATS",
    "ScoreColumns",
    "ScoreData",
    "ScoreRow",
    "is_score_source",
    "read_score_files",
    "read_score_rows",
]
