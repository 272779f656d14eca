"""Samples of lm-evaluation-harness: `samples_TASK_DATE.jsonl`, one folder for each model (`--log_samples`)."""

import re
from collections.abc import Iterator, Mapping

from tuneoff.errors import UserError
from tuneoff.scores.numbers import group_of, name_of, score_of
from tuneoff.scores.score_columns import ScoreColumns
from tuneoff.scores.score_data import ScoreRow
from tuneoff.scores.score_file import ScoreFile, folder_of

_FILE = re.compile(r"samples_(?P<task>.+?)(?:_\d{4}-\d\d-\d\dT[-\d.]+)?\.jsonl.*")
_ABOUT_THE_SAMPLE = frozenset(
    (
        "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
        "prompt_hash", "target_hash",
    )
)  # fmt: skip
_NO_FILTER = ("", "none")


def is_samples(file: ScoreFile) -> bool:
    """Whether lm-evaluation-harness wrote a file."""
    return {"doc_id", "doc", "resps"} <= file.first.keys()


def read_samples(file: ScoreFile, columns: ScoreColumns) -> Iterator[ScoreRow | str]:
    """The scores of one task and one model. Raises `UserError` with file and line.

    The model is the name of the folder. A task with several filters of the answers has each metric once for each of
    them: `exact_match,strict-match`, as lm-evaluation-harness calls it.
    """
    named = _FILE.fullmatch(file.path.name)
    task = named["task"] if named else file.path.stem
    system = file.system or folder_of(file.path).replace("__", "/")
    unused: dict[str, None] = {}
    for place, values in file.rows():
        if "doc_id" not in values:
            raise UserError(
                f"{place}: no doc_id, so this is not a sample of lm-evaluation-harness; write the file again"
            )
        used = name_of(values.get("filter"))
        for metric in _metrics(values):
            try:
                score = score_of(values.get(metric))
            except ValueError:
                unused.setdefault(metric)
                continue
            yield ScoreRow(
                system=system,
                item=f"{task}/{name_of(values['doc_id'])}",
                score=score,
                place=place,
                metric=metric if used in _NO_FILTER else f"{metric},{used}",
                seed=file.seed,
                group=group_of(values, columns.group),
                content=name_of(values.get("doc_hash")) or None,
            )
    if unused:
        yield f"Metrics of {task} that are not one number for each sample are not used: {', '.join(unused)}."


def _metrics(values: Mapping[str, object]) -> list[str]:
    listed = values.get("metrics")
    if isinstance(listed, list):
        return [name for name in map(str, listed) if name in values]
    return [name for name in values if name not in _ABOUT_THE_SAMPLE]
