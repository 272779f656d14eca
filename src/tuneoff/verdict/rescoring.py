"""Old studies judged anew: under another margin or metric, under another ROUGE dialect, and against each other.

Reads study folders only; needs no torch and no model.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from tuneoff import metrics
from tuneoff.errors import UserError
from tuneoff.results.run_record import Prediction, read_documents, read_predictions, read_record, read_rows, run_folders
from tuneoff.results.verdict import Verdict
from tuneoff.spec.run import Frozen
from tuneoff.verdict.confounds import Confound, arithmetic, confounds_between
from tuneoff.verdict.decide import decide
from tuneoff.verdict.judge import Whole, chosen_otherwise, judge_study
from tuneoff.verdict.load import load_scores, outside_files, read_planned

# A training that ends this close to another one has the same validation loss.
_SAME_LOSS = 1e-6


def judge(studies: Iterable[Path], metric: str = "rouge1", margin: float | None = None) -> list[tuple[Path, Whole]]:
    """What every study says of each base model, from its records alone.

    `margin`: in points; None is each study's own. Raises `UserError` for a metric that does not decide (less is better,
    or it has no direction), or a folder without finished runs.
    """
    known = {name for name, entry in metrics.METRICS.items() if entry.higher_is_better}
    if metric not in known:
        raise UserError(
            f"--metric {metric}: a verdict needs a metric in which more is better: {', '.join(sorted(known))}"
        )
    return [(study, whole) for study in studies for whole in judge_study(study, metric, margin)]


def apart(studies: Iterable[Path]) -> list[Confound]:
    """What the runs of the same base model differ in between studies: their verdicts then do not compare."""
    return confounds_between((str(study), [read_record(folder) for folder in run_folders(study)]) for study in studies)


class Rescored(Frozen):
    """One run under the old and the new dialect: means of ROUGE-1 in points."""

    run: str
    before: float
    after: float


def rescore(
    study: Path, dialect: metrics.RougeDialect, margin: float | None = None
) -> tuple[list[Rescored], list[Verdict]]:
    """Score the stored texts of a study again; the change of each final run and outside system, and the new verdicts.
    Nothing is written. `margin`: in points; None is the study's own.

    Raises `UserError` when the study was run with --no-texts.
    """
    if not run_folders(study):
        raise UserError(f"{study}: no run there; name the folder that `tuneoff compare` wrote")
    documents = {document.id: document for document in read_documents(study)}
    if not documents or not any(document.references for document in documents.values()):
        raise UserError(f"{study}: holds no references (it was run with --no-texts), so nothing can be scored again")
    changed: list[Rescored] = []

    def anew(name: str, place: Path, rows: Sequence[Prediction]) -> dict[str, float | None]:
        if any(row.id not in documents for row in rows):
            raise UserError(f"{place}: texts of documents that documents.jsonl does not have; restore it")
        if any(row.left_out for row in rows):
            raise UserError(
                f"{place}: its texts were kept out of the folder (--no-texts), so nothing can be scored again"
            )
        new = {row.id: metrics.rouge(row.text, documents[row.id].references, dialect)["rouge1"] for row in rows}
        changed.append(Rescored(run=name, before=_mean(rows), after=fmean(new.values())))
        return dict(new)

    found: dict[tuple[str, str, int], dict[str, float | None]] = {}
    for folder in run_folders(study):
        record = read_record(folder)
        rows = read_predictions(folder)
        if record.status != "finished" or not record.spec.is_main or not rows:
            continue
        found[record.spec.model.name, record.spec.method.name, record.spec.seed] = anew(record.name, folder, rows)
    others: dict[tuple[str, int], Mapping[str, float | None]] = {}
    for path in outside_files(study):
        if rows := read_rows(path, Prediction):
            others[path.stem, 0] = anew(path.stem, path, rows)
    verdicts = []
    planned = read_planned(study)
    margin = planned.margin if margin is None else margin
    otherwise = chosen_otherwise(planned, margin, dialect=dialect != metrics.RougeDialect.of(planned.score.words))
    for scores in load_scores(study):
        rows_of = others | {
            (method, seed): row
            for (model, method, seed), row in found.items()
            if scores.block in (None, model) and (method, seed) in scores.scores
        }
        verdict = decide(replace(scores, scores=rows_of), margin)
        verdicts.append(verdict.model_copy(update={"sentences": (*verdict.sentences, *otherwise)}))
    return changed, verdicts


def _mean(rows: Iterable[Prediction]) -> float:
    return fmean(row.scores.get("rouge1") or 0.0 for row in rows)


class RunDrift(Frozen):
    """One run in two studies. Points of ROUGE-1, second minus first, over the documents that both have.

    `total` is `training` (texts that are not the same) plus `scoring` (the same text, another score); None where no
    document is in both. `same_texts` is a share; None where texts were not kept, and then nothing can be separated.
    `loss` is the difference of the validation losses.
    """

    run: str
    documents: int
    total: float | None
    training: float | None
    scoring: float | None
    same_texts: float | None
    loss: float | None


class Drift(Frozen):
    """Two studies compared run by run."""

    runs: tuple[RunDrift, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    settings: tuple[str, ...]  # what differs in the settings of runs that both have
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Run:
    folder: Path
    signature: str | None
    loss: float | None
    settings: Mapping[str, object]
    rows: Mapping[str, Prediction]


def diff(first: Path, second: Path) -> Drift:
    """What changed between two studies, drift of training and drift of scoring apart. Raises `UserError`."""
    one, two = _runs(first), _runs(second)
    shared = [name for name in one if name in two]
    if not shared:
        raise UserError(
            f"{first} and {second} share no finished run; runs are matched by model, method, seed and share"
        )
    if not any(one[name].rows.keys() & two[name].rows.keys() for name in shared):
        raise UserError(f"{first} and {second} share no test document; nothing of them can be compared")
    runs = tuple(_drift(name, one[name], two[name]) for name in shared)
    settings = sorted({change for name in shared for change in _changes(one[name], two[name])})
    return Drift(
        runs=runs,
        only_first=tuple(name for name in one if name not in two),
        only_second=tuple(name for name in two if name not in one),
        settings=tuple(settings),
        sentences=tuple(_sentences(runs, settings)),
    )


def _runs(study: Path) -> dict[str, _Run]:
    found = {}
    for folder in run_folders(study):
        record = read_record(folder)
        spec = record.spec
        if record.status != "finished" or spec.role != "final":
            continue
        name = f"{spec.model.name}/{spec.method.name}/seed {spec.seed}/share {spec.fraction:g}"
        found[name] = _Run(
            folder,
            record.signature,
            record.curve.best_validation_loss,
            spec.model_dump(mode="json", exclude={"data": {"source", "train_file", "validation_file", "test_file"}})
            | {"arithmetic": arithmetic(record)},
            {row.id: row for row in read_predictions(folder)},
        )
    if not found:
        raise UserError(f"{study}: no finished run there; name the folder that `tuneoff compare` wrote")
    return found


def _drift(name: str, one: _Run, two: _Run) -> RunDrift:
    ids = sorted(one.rows.keys() & two.rows.keys())
    pairs = [(one.rows[key], two.rows[key]) for key in ids]
    apart = [(after.scores.get("rouge1") or 0.0) - (before.scores.get("rouge1") or 0.0) for before, after in pairs]
    same = [before.text == after.text for before, after in pairs]
    texts = any(before.text for before, _ in pairs) and any(after.text for _, after in pairs)
    count = max(1, len(pairs))
    loss = None if one.loss is None or two.loss is None else two.loss - one.loss
    return RunDrift(
        run=name,
        documents=len(pairs),
        total=sum(apart) / count if pairs else None,
        training=sum(each for each, alike in zip(apart, same, strict=True) if not alike) / count if texts else None,
        scoring=sum(each for each, alike in zip(apart, same, strict=True) if alike) / count if texts else None,
        same_texts=sum(same) / count if texts else None,
        loss=loss,
    )


def _changes(one: _Run, two: _Run) -> Iterable[str]:
    if one.signature != two.signature:
        yield f"ROUGE: {one.signature} -> {two.signature}"
    before, after = dict(_leaves(one.settings)), dict(_leaves(two.settings))
    for key in before.keys() | after.keys():
        if before.get(key) != after.get(key):
            yield f"{key}: {before.get(key)} -> {after.get(key)}"


def _leaves(value: object, prefix: str = "") -> Iterable[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _sentences(runs: tuple[RunDrift, ...], settings: list[str]) -> Iterable[str]:
    moved = [run for run in runs if run.loss is not None and abs(run.loss) > _SAME_LOSS]
    yield f"{len(runs)} runs are in both; in {len(moved)} of them training ended at another validation loss."
    known = [run for run in runs if run.training is not None]
    if known:
        most = max(known, key=lambda run: abs(run.total or 0.0))
        yield (
            f"The largest change is {most.total:+.2f} points ({most.run}): {most.training:+.2f} from other texts, "
            f"{most.scoring:+.2f} from other scores of the same texts."
        )
    if any(run.total is None for run in runs):
        yield "Runs without a number share no test document."
    if any(run.total is not None and run.training is None for run in runs):
        yield "Where texts were not kept, drift of training and of scoring cannot be told apart."
    if settings:
        more = f"; and {len(settings) - 5} more (--json has all)" if len(settings) > 5 else ""
        yield f"Settings that differ: {'; '.join(settings[:5])}{more}."
