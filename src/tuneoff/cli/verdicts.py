"""The judging commands: load study folders, judge them, and return text for people or JSON."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from tuneoff.cli.output import say
from tuneoff.data import ColumnsTaken
from tuneoff.errors import UserError
from tuneoff.methods.rows import typed_row
from tuneoff.metrics import RougeDialect, rouge_signature
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.study_dir import StoredStudy, StudyDir
from tuneoff.results.summary import Confound, MethodResult, ModelToUse, Verdict
from tuneoff.spec import RougeWords, ScoreSpec
from tuneoff.text import join_words, sanitize
from tuneoff.verdict.confounds import confounds_between
from tuneoff.verdict.importers import judge_peft_results
from tuneoff.verdict.judge import JudgedModel, judge_study
from tuneoff.verdict.ratings import Preference, judge_ratings, read_ratings, saved_ratings
from tuneoff.verdict.rescoring import rescore
from tuneoff.verdict.rounding import bound_text
from tuneoff.verdict.selection import find_model_to_use
from tuneoff.verdict.sentences import against_best
from tuneoff.verdict.study_diff import diff
from tuneoff.verdict.together import Together, judge_studies, summarize_together


def judge_output(
    folders: Sequence[Path],
    metric: str | None,
    margin: float | None,
    rated: Sequence[Path],
    *,
    as_json: bool,
    report: Path | None = None,
) -> str:
    """The verdicts of studies, the confounds between them, and the ratings of people. `rated`: further rating files.

    `report`: where to write a page about the rows of all studies.
    """
    if rated and len(folders) != 1:
        raise UserError("--ratings: needs exactly one study folder, the one whose texts were rated")
    _check_margin(margin)
    studies = {folder: StudyDir(folder).load() for folder in dict.fromkeys(folders)}
    judged = [(folder, one) for folder in folders for one in judge_study(studies[folder], metric, margin)]
    together = None
    if len(studies) > 1:
        together = judge_studies(dict(zip(_short_names(studies), studies.values(), strict=True)), metric, margin)
    confounds = confounds_between(
        ((str(folder), study.records) for folder, study in studies.items()),
        settings=together is not None and together.reason is None,
    )
    if report is not None:
        _write_page(report, together, dict(zip(_short_names(studies), studies.values(), strict=True)), confounds)
    requested = [(path, judge_ratings(studies[folders[0]], read_ratings(path))) for path in rated]
    known = {path.resolve() for path in rated}
    saved = [found for study in studies.values() for found in saved_ratings(study) if found[0].resolve() not in known]
    ratings = [*requested, *saved]
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "study": str(folder),
                **one.verdict.model_dump(mode="json"),
                "cautions": _cautions(studies[folder], one),
                "data_sizes": one.data_sizes.model_dump(mode="json") if one.data_sizes else None,
                "claims": [claim.model_dump(mode="json") for claim in one.claims],
            }
            for folder, one in judged
        ]
        if together is not None:
            names = [str(folder) for folder in studies]
            rows += [{"studies": names, **one.model_dump(mode="json")} for one in together.verdicts]
            rows += [{"studies": names, "no_common_verdict": together.reason}] if together.reason else []
        rows += [{"between": confound.model_dump(mode="json")} for confound in confounds]
        return json.dumps([*rows, *({"ratings": _rating_as_data(path, found)} for path, found in ratings)])
    lines = []
    for folder, one in judged:
        verdict = one.verdict
        lines.append(f"{folder}, {verdict.metric}" + (f", {verdict.block}" if verdict.block else ""))
        lines += [f"  CAUTION: {caution}" for caution in _cautions(studies[folder], one)]
        lines += verdict_lines(verdict)
        lines += [f"  Data size: {sentence}" for sentence in (one.data_sizes.sentences if one.data_sizes else ())]
        lines += [f"  Claim, {claim.outcome}: {claim.text} ({claim.why})" for claim in one.claims]
    if together is not None:
        lines += _together_lines(join_words(_short_names(studies)), together)
    lines += [
        f"{'CAUTION' if confound.changes_scores else 'note'}: {confound.model}: {confound.description}"
        for confound in confounds
    ]
    for path, found in ratings:
        sentences = [found] if isinstance(found, str) else found.sentences
        lines += [str(path), *(f"  {sentence}" for sentence in sentences)]
    return _joined(lines)


def _short_names(folders: Iterable[Path]) -> list[str]:
    """The last parts of the folders; the folders as they are typed if two end alike."""
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def _write_page(
    page: Path, together: Together | None, studies: Mapping[str, StoredStudy], confounds: Sequence[Confound]
) -> None:
    """Write the page about the rows of all studies; of several base models, one for each."""
    if together is None or together.reason is not None:
        why = together.reason if together is not None else "only one study was named; tuneoff report writes its page"
        raise UserError(f"--report {page}: there is no common verdict to report ({why})")
    from tuneoff.report.score_page import write_score_page

    for index, summary in enumerate(summarize_together(together, studies, confounds)):
        path = page if index == 0 else page.with_name(f"{page.stem}-{index + 1}{page.suffix}")
        say(f"report: {write_score_page(summary, path)}")


def _together_lines(names: str, together: Together) -> list[str]:
    if together.reason is not None:
        return [f"{names} have no common verdict: {together.reason}"]
    lines = []
    for verdict in together.verdicts:
        lines.append(f"{names} together, {verdict.metric}" + (f", {verdict.block}" if verdict.block else ""))
        lines += verdict_lines(verdict)
    return lines


def _rating_as_data(path: Path, found: Preference | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"file": str(path), "problem": found}
    return {"file": str(path), **found.model_dump(mode="json")}


def _cautions(study: StoredStudy, judged: JudgedModel) -> list[str]:
    """What the verdict itself does not say and must be read before it."""
    verdict = judged.verdict
    said = verdict.no_winner is None or verdict.says_nothing is not None
    return [*([] if said else [str(verdict.no_winner)]), *study.data.all_cautions]


def _check_margin(margin: float | None) -> None:
    if margin is not None and not 0 <= margin < math.inf:
        raise UserError(f"--margin {margin:g}: use a number of points, 0 or more")


def verdict_lines(verdict: Verdict) -> list[str]:
    """A line for each method, best first, and the sentences."""
    decimals = verdict.decimals + 1
    width = max([18, *(len(result.title) for result in verdict.methods)])

    def bound(result: MethodResult) -> str:
        if result.regret_bound is None:
            return ""
        return f"  regret bound {bound_text(result.regret_bound, decimals):>5}  {against_best(result, verdict)}"

    rows = [
        f"  {result.title:<{width}} {result.mean:{decimals + 4}.{decimals}f}{bound(result)}"
        for result in verdict.ranked
    ]
    return [*rows, *(f"  {sentence}" for sentence in verdict.sentences)]


def rescore_output(
    folder: Path, margin: float | None, *, stemmer: bool, references: str, words: str | None, as_json: bool
) -> str:
    """The verdicts of a study by another ROUGE dialect. `words`: what counts as a word; None for the study's own."""
    _check_margin(margin)
    if references not in ("best", "first"):
        raise UserError(f"--references {references}: use best or first")
    if words not in (None, *get_args(RougeWords)):
        raise UserError(f"--rouge-words {words}: use {join_words(get_args(RougeWords)).replace(' and ', ' or ')}")
    study = StudyDir(folder).load()
    counted = (study.spec.score if study.spec else ScoreSpec()).words if words is None else cast(RougeWords, words)
    dialect = replace(RougeDialect.of(counted), multi_reference="best" if references == "best" else "first")
    if not stemmer:
        dialect = replace(dialect, stemmer=False)
    changed, verdicts = rescore(study, dialect, margin)
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
        lines += verdict_lines(verdict)
    return _joined(lines)


def select_run(folder: Path, method: str | None, model: str | None) -> StoredRun:
    """The run that a study hands over, reported on stderr. A run folder is returned as it is."""
    if RunDir(folder).has_record() or not (folder / "runs").exists():
        if method is not None or model is not None:
            raise UserError(
                f"{folder}: a run has one method and one model; to choose with --method or --model, name the study "
                "folder"
            )
        return StoredRun(RunDir(folder), RunDir(folder).read_record())
    study = StudyDir(folder).load()
    found = find_model_to_use(study, typed_row(method) if method else None, model)
    say(describe_choice(found, folder))
    chosen = study.run(found.run)
    assert chosen is not None
    return chosen


def columns_of_training(run: StoredRun) -> ColumnsTaken | None:
    """The columns that the training documents of a run came from; None if that is not known."""
    study = StudyDir(run.dir.path.resolve().parent.parent)
    data = study.read_data() if study.is_study() else None
    return data.columns.get("train") if data is not None else None


def describe_choice(found: ModelToUse, folder: Path) -> str:
    """Which run of the study in `folder` is used, and why, with a path to it that can be typed."""
    path = StudyDir(folder).run_dir(found.run).path
    return f"{found.title} on {found.model}, seed {found.seed} ({found.why}): {path}"


def diff_output(first: Path, second: Path, *, as_json: bool) -> str:
    """Two studies compared run by run."""
    found = diff(StudyDir(first).load(), StudyDir(second).load())
    if as_json:
        return json.dumps(found.model_dump(mode="json"))
    training = "training or data" if found.documents.same_data is False else "training"
    lines = [
        f"  {run.run:<44} {'     –' if run.total is None else f'{run.total:+6.2f}'}"
        + ("" if run.training is None else f"  {training} {run.training:+6.2f}, scoring {run.scoring:+6.2f}")
        for run in found.runs
    ]
    lines += [f"  only in {first}: {name}" for name in found.only_first]
    lines += [f"  only in {second}: {name}" for name in found.only_second]
    return _joined([*found.sentences, *lines])


def peft_output(files: Sequence[Path], *, as_json: bool) -> str:
    """Result files of PEFT's own comparison, judged."""
    found = judge_peft_results(files)
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
    return _joined([*lines, "  * may be the best; front: no other is both cheaper and better"])


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(sanitize(line) for line in lines)
