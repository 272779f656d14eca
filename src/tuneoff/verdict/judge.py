"""All that a study folder says, for each base model: the verdict, what the amount of data changes, and its claims."""

import json
from dataclasses import dataclass
from pathlib import Path

from tuneoff.errors import UserError
from tuneoff.metrics.registry import METRICS
from tuneoff.results.run_record import read_record, run_folders
from tuneoff.results.verdict import Verdict
from tuneoff.verdict.claims import Judged, judge_claims
from tuneoff.verdict.data_sizes import SizeVerdict, judge_sizes
from tuneoff.verdict.decide import decide
from tuneoff.verdict.load import Planned, load_scores, read_planned
from tuneoff.verdict.scores import Scores
from tuneoff.verdict.sentences import listed

DECIDES = "rouge1"  # the metric of every study; others can be asked for later


@dataclass(frozen=True)
class Whole:
    """One base model of a study. `sizes` is None where fewer than two shares of the data can be judged."""

    scores: Scores
    verdict: Verdict
    sizes: SizeVerdict | None
    claims: tuple[Judged, ...]


def judge_study(study: Path, metric: str = DECIDES, margin: float | None = None) -> list[Whole]:
    """Everything anew from the records, one `Whole` for each base model in the order of their names. `margin`: None
    is the one that the study was planned with.

    Raises `UserError` for a folder without final runs on all the data, or a damaged file.
    """
    planned = read_planned(study)
    margin = planned.margin if margin is None else margin
    otherwise = chosen_otherwise(planned, margin, metric)
    records = [read_record(folder) for folder in run_folders(study)]
    fractions = {record.spec.fraction for record in records if record.spec.role == "final"} - {1.0}
    examples = _training_examples(study)
    smaller = {share: load_scores(study, metric, fraction=share) for share in sorted(fractions)} if examples else {}
    found = []
    for scores in load_scores(study, metric):
        verdict = decide(scores, margin)
        verdict = verdict.model_copy(update={"sentences": (*verdict.sentences, *otherwise)})
        shares = {share: own for share, blocks in smaller.items() for own in blocks if own.block == scores.block}
        sizes = judge_sizes({**shares, 1.0: scores}, examples, margin)
        own = [record for record in records if scores.block in (None, record.spec.model.name)]
        claims = judge_claims(planned.claims, own, verdict, sizes, margin, seeds=planned.seeds)
        found.append(Whole(scores, verdict, sizes, tuple(claims)))
    return found


def chosen_otherwise(planned: Planned, margin: float, metric: str = DECIDES, *, dialect: bool = False) -> list[str]:
    """What a verdict says that is reached by another choice than the one that was made before the runs. `dialect`:
    scores are of another ROUGE dialect than the study's."""
    titles = [METRICS[name].title for name in (metric, DECIDES)]
    chosen = [" instead of ".join(titles)] if metric != DECIDES else []
    if dialect:
        chosen.append("another ROUGE dialect than the study's")
    if margin != planned.margin:
        chosen.append(f"a margin of {margin:g} points instead of {planned.margin:g}")
    if not chosen:
        return []
    return [f"Judged by {listed(chosen)}: exploratory, unless that was chosen before the results were seen."]


def _training_examples(study: Path) -> int:
    """Training examples of all the data; 0 where the folder does not tell."""
    path = study / "data.json"
    if not path.exists():
        return 0
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["counts"]["train"])
    except (ValueError, KeyError, TypeError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise UserError(f"{path}: damaged; restore it or run the study again") from error
