"""Scores of other programs in Python: `read_scores` and what it returns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict, Unpack

from tuneoff.errors import UserError
from tuneoff.options import StrPath
from tuneoff.results.summary import Summary, Verdict
from tuneoff.scores import ScoreColumns, ScoreData, read_score_files, read_score_rows
from tuneoff.verdict.score_verdict import JudgedScores, judge_scores, summarize_scores


class ColumnOptions(TypedDict, total=False):
    """Which systems to compare, and names of columns; without one, it is found by usual names."""

    systems: Sequence[str]
    system_column: str
    item_column: str
    score_column: str
    seed_column: str
    group_column: str
    metric_column: str


def read_scores(
    scores: object,
    *,
    metric: str | None = None,
    margin: float | None = None,
    lower_is_better: bool = False,
    **columns: Unpack[ColumnOptions],
) -> ScoredSystems:
    """Read anybody's scores, and judge them like a study. Needs no torch.

    Args:
        scores: A pandas or polars DataFrame, a list of rows or a mapping of columns: a row for each score (columns
            system, item, score, and if there are some: seed, group, metric), or a column for each system. Or the path
            of such a table, of samples of lm-evaluation-harness, of logs of inspect_ai, of instances of Every Eval
            Ever, or of a folder of them; or a list of paths, or a mapping from the name of a system to its path.
        metric: The metric to judge by; by default the first that most systems have.
        margin: Difference that does not matter in practice, in points; by default 0.5 where the scale of the scores is
            0 to 1 or 0 to 100, else 0.
        lower_is_better: Whether less of the metric is better.
        **columns: `systems` to compare, and names of columns.

    Raises:
        UserError: For scores that cannot be read or that contradict one another, with the file and line.
    """
    wanted = _columns(columns)
    paths = _paths(scores)
    data = read_score_rows(scores, wanted) if paths is None else read_score_files(paths, wanted)
    return ScoredSystems(data, judge_scores(data, metric, margin, higher_is_better=not lower_is_better), margin)


def _columns(options: ColumnOptions) -> ScoreColumns:
    known = {**ColumnOptions.__annotations__}
    if unknown := sorted(set(options) - known.keys()):
        raise UserError(f"{unknown[0]}=: there is no such option; use {', '.join(known)}")
    names = {name.removesuffix("_column"): value for name, value in options.items() if name != "systems"}
    return ScoreColumns(**names, systems=tuple(options.get("systems", ())))  # type: ignore[arg-type]


def _paths(scores: object) -> list[str] | None:
    """Sources as on the command line; None for a table in memory."""
    if isinstance(scores, str | os.PathLike):
        return [os.fspath(scores)]
    if isinstance(scores, Mapping) and scores and all(isinstance(path, str | os.PathLike) for path in scores.values()):
        return [f"{name}={os.fspath(path)}" for name, path in scores.items()]
    if isinstance(scores, list | tuple) and scores and all(isinstance(path, str | os.PathLike) for path in scores):
        return [os.fspath(path) for path in scores]
    return None


@dataclass(frozen=True)
class ScoredSystems:
    """Scores of systems, and what they show."""

    data: ScoreData
    judged: JudgedScores
    margin: float | None = None
    """As it was given, in points; None if it follows from the scale of a metric."""

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.judged.verdict

    @cached_property
    def summary(self) -> Summary:
        """Verdict and means, as a study has them."""
        return summarize_scores(self.judged, "Scores")

    def judge(
        self, *, metric: str | None = None, margin: float | None = None, lower_is_better: bool | None = None
    ) -> Verdict:
        """The verdict by another metric, margin or direction; None is the one that these were read with.

        Raises `UserError` as `read_scores` does.
        """
        higher = self.verdict.higher_is_better if lower_is_better is None else not lower_is_better
        name = self.verdict.metric if metric is None else metric
        margin = self.margin if margin is None else margin
        return judge_scores(self.data, name, margin, higher_is_better=higher).verdict

    def report(self, path: StrPath = "scores.html") -> Path:
        """Write the report, one HTML file, and return its path. Raises `UserError` if it cannot be written."""
        from tuneoff.report.score_page import write_score_page

        return write_score_page(self.summary, Path(path).expanduser())

    def __repr__(self) -> str:
        return (
            f"ScoredSystems({len(self.data.systems)} systems, {self.verdict.documents} items, {self.verdict.metric!r})"
        )

    def _repr_html_(self) -> str:
        """Table and verdict, for notebooks."""
        from tuneoff.report.notebook_table import study_html

        return study_html(self.summary)
