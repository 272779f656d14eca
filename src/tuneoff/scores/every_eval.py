"""Instance-level records of Every Eval Ever (`instance_level_eval.schema.json`), one JSON object a line.

A sample with several metrics has a record for each, which `evaluation_result_id` distinguishes.
"""

from collections.abc import Iterator, Mapping

from tuneoff.errors import UserError
from tuneoff.scores.numbers import group_of, name_of, score_of
from tuneoff.scores.score_columns import ScoreColumns
from tuneoff.scores.score_data import DEFAULT_METRIC, ScoreRow
from tuneoff.scores.score_file import ScoreFile

_REQUIRED = ("model_id", "evaluation_name", "sample_id")


def is_instances(file: ScoreFile) -> bool:
    """Whether a file holds such records."""
    return {*_REQUIRED, "evaluation"} <= file.first.keys()


def read_instances(file: ScoreFile, columns: ScoreColumns) -> Iterator[ScoreRow | str]:
    """The scores of a file; without a score, `is_correct` counts. Raises `UserError` with file and line."""
    for place, values in file.rows():
        model, evaluation, sample = (name_of(values.get(name)) for name in _REQUIRED)
        found = values.get("evaluation")
        if not (model and evaluation and sample) or not isinstance(found, Mapping):
            raise UserError(f"{place}: not a record of Every Eval Ever; it needs {', '.join(_REQUIRED)} and evaluation")
        score = found.get("score", found.get("is_correct"))
        try:
            value = score_of(score)
        except ValueError as error:
            raise UserError(f"{place}: evaluation.score is {str(score)[:60]!r}; a number was expected") from error
        yield ScoreRow(
            system=file.system or model,
            item=f"{evaluation}/{sample}",
            score=value,
            place=place,
            metric=name_of(values.get("evaluation_result_id")) or DEFAULT_METRIC,
            seed=file.seed,
            group=group_of(values, columns.group),
            content=name_of(values.get("sample_hash")) or None,
        )
