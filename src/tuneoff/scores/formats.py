"""The formats of scores by name. A new one is a module in this package and a line in `FORMATS`.

Another package adds one by an entry point of the group `tuneoff.score_formats` that names a `ScoreFormat`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tuneoff.plugins import Registry
from tuneoff.scores import every_eval, inspect_logs, lm_eval, tables
from tuneoff.scores.score_columns import ScoreColumns
from tuneoff.scores.score_data import ScoreRow
from tuneoff.scores.score_file import ScoreFile


@dataclass(frozen=True)
class ScoreFormat:
    """How one program writes scores."""

    title: str
    recognises: Callable[[ScoreFile], bool]
    """Whether a file is of this format. Reads only its beginning."""
    read: Callable[[ScoreFile, ScoreColumns], Iterator[ScoreRow | str]]
    """Yields rows, and sentences about what was left out. Raises `UserError` with file and line."""
    in_folders: tuple[str, ...] = ()
    """Patterns of its files in a folder, such as `samples_*.jsonl`. Without any, its files are named one by one."""


def _check_format(_name: str, loaded: object) -> ScoreFormat:
    if not isinstance(loaded, ScoreFormat):
        raise ValueError(f"{loaded!r} is not a tuneoff.scores.formats.ScoreFormat")
    return loaded


TABLE = ScoreFormat("table (CSV, TSV, JSON, Parquet)", lambda _: True, tables.read_table)
FORMATS = Registry[ScoreFormat](
    "tuneoff.score_formats",
    {
        "inspect": ScoreFormat("log of inspect_ai", inspect_logs.is_log, inspect_logs.read_log, ("*.eval", "*.json")),
        "lm_eval": ScoreFormat(
            "samples of lm-evaluation-harness", lm_eval.is_samples, lm_eval.read_samples, ("samples_*.jsonl",)
        ),
        "every_eval_ever": ScoreFormat(
            "instances of Every Eval Ever", every_eval.is_instances, every_eval.read_instances, ("*.jsonl",)
        ),
    },
    _check_format,
)
"""Those that are recognised by their content. Any other file is a `TABLE`."""


def format_of(file: ScoreFile) -> ScoreFormat:
    """The format of a file."""
    return next((one for one in FORMATS.values() if one.recognises(file)), TABLE)
