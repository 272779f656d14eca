"""Verdicts on what is on disk, as text for people and as JSON."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from tuneoff.errors import UserError
from tuneoff.metrics import RougeDialect, rouge_signature
from tuneoff.results.verdict import MethodResult, Verdict
from tuneoff.spec import RougeWords
from tuneoff.study.printable import printable
from tuneoff.verdict import importers, rescoring
from tuneoff.verdict.load import read_planned
from tuneoff.verdict.ratings import Preference, judge_ratings, read_ratings, saved_ratings
from tuneoff.verdict.selection import Winner, find_winner


def judged(folders: Sequence[Path], metric: str, margin: float | None, rated: Sequence[Path], *, as_json: bool) -> str:
    """The verdicts of studies, and of people who rated the texts of one."""
    if rated and len(folders) != 1:
        raise UserError("--ratings: name the one study whose texts were rated")
    _check(margin)
    found = rescoring.judge(folders, metric, margin)
    apart = rescoring.apart(folders)
    asked = [(path, judge_ratings(folders[0], read_ratings(path))) for path in rated]
    known = {path.resolve() for path in rated}
    saved = [(path, one) for study in folders for path, one in saved_ratings(study) if path.resolve() not in known]
    people = [*asked, *saved]
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "study": str(study),
                **whole.verdict.model_dump(mode="json"),
                "data_sizes": whole.sizes.model_dump(mode="json") if whole.sizes else None,
                "claims": [claim.model_dump(mode="json") for claim in whole.claims],
            }
            for study, whole in found
        ]
        rows += [{"between": one.model_dump(mode="json")} for one in apart]
        return json.dumps([*rows, *({"ratings": _as_data(path, one)} for path, one in people)])
    lines = []
    for study, whole in found:
        verdict = whole.verdict
        lines.append(f"{study}, {verdict.metric}" + (f", {verdict.block}" if verdict.block else ""))
        lines += _verdict(verdict)
        lines += [f"  Amounts of data: {said}" for said in (whole.sizes.sentences if whole.sizes else ())]
        lines += [f"  Claim, {claim.outcome}: {claim.text} ({claim.why})" for claim in whole.claims]
    lines += [f"{'CAUTION' if one.grave else 'note'}: {one.model}: {one.words}" for one in apart]
    for path, one in people:
        lines += [f"{path}", *(f"  {sentence}" for sentence in ([one] if isinstance(one, str) else one.sentences))]
    return _text(lines)


def _as_data(path: Path, one: Preference | str) -> dict[str, Any]:
    if isinstance(one, str):
        return {"file": str(path), "problem": one}
    return {"file": str(path), **one.model_dump(mode="json")}


def _check(margin: float | None) -> None:
    if margin is not None and not 0 <= margin < math.inf:
        raise UserError(f"--margin {margin:g}: points from 0 on")


def _verdict(verdict: Verdict) -> list[str]:
    def against_best(result: MethodResult) -> str:
        if result.not_worse:
            return "not worse than the best by the margin"
        return "not settled" if result.may_be_best else "another method is better"

    rows = [
        f"  {result.title:<18} {result.mean:6.2f}  may lose {result.may_lose:5.2f}  {against_best(result)}"
        for result in sorted(verdict.methods, key=lambda result: -result.mean)
    ]
    return [*rows, *(f"  {sentence}" for sentence in verdict.sentences)]


def rescored(
    folder: Path, margin: float | None, *, stemmer: bool, references: str, words: str | None, as_json: bool
) -> str:
    """A study under another dialect; without `words` those that it was scored by."""
    _check(margin)
    if references not in ("best", "first"):
        raise UserError(f"--references {references}: choose best or first")
    if words not in (None, *get_args(RougeWords)):
        raise UserError(
            f"--rouge-words {words}: choose {', '.join(get_args(RougeWords)[:-1])} or {get_args(RougeWords)[-1]}"
        )
    counted = read_planned(folder).score.words if words is None else cast(RougeWords, words)
    dialect = replace(RougeDialect.of(counted), multi_reference="best" if references == "best" else "first")
    if not stemmer:
        dialect = replace(dialect, stemmer=False)
    changed, verdicts = rescoring.rescore(folder, dialect, margin)
    if as_json:
        found: dict[str, Any] = {
            "signature": rouge_signature(dialect),
            "runs": [row.model_dump(mode="json") for row in changed],
            "verdicts": [verdict.model_dump(mode="json") for verdict in verdicts],
        }
        return json.dumps(found)
    lines = [rouge_signature(dialect)]
    lines += [f"  {row.run:<24} {row.before:6.2f} -> {row.after:6.2f}" for row in changed]
    for verdict in verdicts:
        lines += _verdict(verdict)
    return _text(lines)


def run_to_use(folder: Path, method: str | None, model: str | None) -> Path:
    """The folder of the run that a study hands over, told on stderr; `folder` itself where it is a run's."""
    if (folder / "record.json").exists() or not (folder / "runs").exists():
        if method is not None or model is not None:
            raise UserError(
                f"{folder}: a run has one method and one model; name the study's folder to choose among its"
            )
        return folder
    found = find_winner(folder, method.replace("-", "_") if method else None, model)
    print(printable(handed_over(found)), file=sys.stderr)
    return folder / "runs" / found.run


def handed_over(winner: Winner) -> str:
    """Which run, and why."""
    return f"{winner.title} on {winner.model}, seed {winner.seed} ({winner.why}): runs/{winner.run}"


def drifted(first: Path, second: Path, *, as_json: bool) -> str:
    """Two studies compared."""
    found = rescoring.diff(first, second)
    if as_json:
        return json.dumps(found.model_dump(mode="json"))
    lines = [
        f"  {run.run:<44} {'     –' if run.total is None else f'{run.total:+6.2f}'}"
        + ("" if run.training is None else f"  training {run.training:+6.2f}, scoring {run.scoring:+6.2f}")
        for run in found.runs
    ]
    lines += [f"  only in {first}: {name}" for name in found.only_first]
    lines += [f"  only in {second}: {name}" for name in found.only_second]
    return _text([*found.sentences, *lines])


def of_peft(files: Sequence[Path], *, as_json: bool) -> str:
    """PEFT's own comparison."""
    found = importers.import_peft(files)
    if as_json:
        return json.dumps([verdict.model_dump(mode="json") for verdict in found])
    lines: list[str] = []
    for verdict in found:
        lines += verdict.sentences
        lines += [
            f"  {'*' if result.may_be_best else ' '} {result.name:<48} {result.accuracy:5.1f}"
            f" ({result.low:.1f} to {result.high:.1f})"
            + (f"  front: {', '.join(axis.split(',')[0] for axis in result.on_front)}" if result.on_front else "")
            for result in verdict.results
        ]
    return _text([*lines, "  * may be the best; front: nothing is both cheaper and better"])


def _text(lines: Sequence[str]) -> str:
    return "\n".join(printable(line) for line in lines)
