"""`tuneoff judge` for scores of other programs: text for people, JSON, and a report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneoff.cli.output import say
from tuneoff.cli.verdicts import verdict_lines
from tuneoff.errors import UserError
from tuneoff.results.study_dir import StudyDir
from tuneoff.scores import ScoreColumns, is_score_source, read_score_files
from tuneoff.text import sanitize
from tuneoff.verdict.score_verdict import judge_scores, summarize_scores


@dataclass(frozen=True)
class ScoreFlags:
    """The flags of `judge` for scores of other programs."""

    columns: ScoreColumns
    report: Path | None = None
    """Studies can have one too."""
    lower_is_better: bool = False

    @property
    def only_for_scores(self) -> bool:
        """Whether one was given that means nothing for studies."""
        return self.lower_is_better or self.columns != ScoreColumns()


def split_sources(sources: Sequence[str], flags: ScoreFlags) -> tuple[list[Path], list[str]]:
    """Folders of studies, and sources of scores. Whatever is neither counts as a study, which is then not found.

    Raises `UserError` for flags about scores if there are none.
    """
    studies, scores = [], []
    for source in sources:
        path = Path(source)
        is_study = path.is_dir() and StudyDir(path).is_begun()
        if not is_study and is_score_source(source):
            scores.append(source)
        else:
            studies.append(path)
    if flags.only_for_scores and not scores:
        raise UserError(f"{sources[0]}: not a file of scores, but flags for such files were given; leave them out")
    return studies, scores


def judge_scores_output(
    sources: Sequence[str], metric: str | None, margin: float | None, flags: ScoreFlags, *, as_json: bool
) -> str:
    """The verdict about the scores in all sources together. Writes the report if there is a file for it."""
    data = read_score_files(sources, flags.columns)
    judged = judge_scores(data, metric, margin, higher_is_better=not flags.lower_is_better)
    if flags.report is not None:
        from tuneoff.report.score_page import write_score_page

        write_score_page(summarize_scores(judged, "Scores"), flags.report)
        say(f"report: {flags.report}")
    verdict = judged.verdict
    if as_json:
        return json.dumps([{"files": list(data.files), **verdict.model_dump(mode="json")}])
    lines = [f"{', '.join(sources)}: {verdict.metric}", *verdict_lines(verdict)]
    return "\n".join(map(sanitize, lines))


def joined_json(parts: Sequence[str]) -> str:
    """Several JSON lists as one."""
    return json.dumps([entry for part in parts for entry in json.loads(part)])
