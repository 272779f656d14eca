"""Compare two studies run by run: drift of the training, drift of the scoring, and settings that differ."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from tuneoff.data import group_id
from tuneoff.errors import UserError
from tuneoff.metrics.registry import METRICS
from tuneoff.results.run_record import Document, Prediction
from tuneoff.results.study_dir import StoredStudy
from tuneoff.spec.run import Frozen
from tuneoff.text import plural
from tuneoff.verdict.confounds import arithmetic
from tuneoff.verdict.judge import planned_metric

# Validation losses that differ by at most this much are the same.
_SAME_LOSS = 1e-6
_SHOWN_SETTINGS = 5


class RunDrift(Frozen):
    """One run in two studies. Differences are second minus first, in the unit of the metric, over common documents."""

    run: str
    documents: int
    """Documents in both studies."""
    total: float | None
    """Sum of `training` and `scoring`; None without a common document."""
    training: float | None
    """Part from texts that differ; None if the texts were not kept."""
    scoring: float | None
    """Part from equal texts with different scores; None if the texts were not kept."""
    same_texts: float | None
    """Fraction of equal texts; None if the texts were not kept."""
    loss: float | None
    """Difference of the validation losses, in nats per token."""


class SharedDocuments(Frozen):
    """How many test documents the compared runs of two studies have in common; only those are compared."""

    first: int
    second: int
    shared: int
    changed: int = 0
    """Documents of both studies whose id is the same and whose text or references are not."""
    same_data: bool | None = None
    """Whether all data are the same, training data too; None if it is unknown."""

    @property
    def all_shared(self) -> bool:
        """Whether both studies have the same test documents."""
        return self.shared == self.first == self.second


class StudyDiff(Frozen):
    """Two studies compared run by run."""

    metric: str
    """That of the first study, by which both are compared."""
    documents: SharedDocuments
    runs: tuple[RunDrift, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    settings: tuple[str, ...]
    """Settings that differ in the common runs."""
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _ComparedRun:
    signature: str | None
    loss: float | None
    settings: Mapping[str, object]
    rows: Mapping[str, Prediction]


def diff(first: StoredStudy, second: StoredStudy) -> StudyDiff:
    """Compare two studies on the test documents of both.

    Raises `UserError` if they have no finished run or no test document in common.
    """
    one, two = _finished_runs(first), _finished_runs(second)
    common = [name for name in one if name in two]
    if not common:
        raise UserError(
            f"{first.path} and {second.path} have no finished run in common; runs are matched by model, method, seed "
            "and fraction of the data"
        )
    changed = _changed_documents(first.documents, second.documents)
    documents = _shared_documents(first, second, [(one[name], two[name]) for name in common], changed)
    if not any(_common_ids(one[name], two[name], changed) for name in common):
        same = f" ({plural(documents.changed, 'id')} in both, with other texts)" if documents.changed else ""
        raise UserError(
            f"{first.path} and {second.path} have no test document in common{same}; compare studies of one data set"
        )
    metric, other_metric = planned_metric(first), planned_metric(second)
    runs = tuple(_drift(name, one[name], two[name], changed, metric) for name in common)
    settings = sorted({change for name in common for change in _changed_settings(one[name], two[name])})
    return StudyDiff(
        metric=metric,
        documents=documents,
        runs=runs,
        only_first=tuple(name for name in one if name not in two),
        only_second=tuple(name for name in two if name not in one),
        settings=tuple(settings),
        sentences=(
            *_data_sentences(documents),
            *_metric_sentences(metric, other_metric),
            *_sentences(runs, settings, metric),
        ),
    )


def _changed_documents(first: Sequence[Document], second: Sequence[Document]) -> frozenset[str]:
    """Ids of both studies with other contents: rows that are numbered have the same ids in every data set."""
    before = {document.id: document for document in first}
    return frozenset(
        document.id
        for document in second
        if document.id in before and not _same_contents(before[document.id], document)
    )


def _same_contents(one: Document, other: Document) -> bool:
    """By the texts; by the group, which is a hash of the document, if one study has none (`--no-texts`)."""
    if not one.document or not other.document:
        return one.group == other.group
    return group_id(one.document) == group_id(other.document) and one.references == other.references


def _shared_documents(
    first: StoredStudy, second: StoredStudy, pairs: Sequence[tuple[_ComparedRun, _ComparedRun]], changed: Set[str]
) -> SharedDocuments:
    before = {key for one, _ in pairs for key in one.rows}
    after = {key for _, two in pairs for key in two.rows}
    hashes = (first.data.content_hash, second.data.content_hash)
    return SharedDocuments(
        first=len(before),
        second=len(after),
        shared=len((before & after) - changed),
        changed=len(before & after & changed),
        same_data=None if None in hashes else hashes[0] == hashes[1],
    )


def _common_ids(one: _ComparedRun, two: _ComparedRun, changed: Set[str]) -> list[str]:
    return sorted((one.rows.keys() & two.rows.keys()) - changed)


def _finished_runs(study: StoredStudy) -> dict[str, _ComparedRun]:
    found = {}
    for run in study.runs:
        record, spec = run.record, run.record.spec
        if record.status != "finished" or spec.role != "final":
            continue
        name = f"{spec.model.name}/{spec.method.name}/seed {spec.seed}/fraction {spec.fraction:g}"
        name += "" if spec.data.fold is None else f"/fold {spec.data.fold}"
        settings = spec.model_dump(
            mode="json", exclude={"data": {"source", "train_file", "validation_file", "test_file"}}
        )
        found[name] = _ComparedRun(
            record.signature,
            record.curve.best_validation_loss,
            settings | {"arithmetic": arithmetic(record)},
            {row.id: row for row in run.predictions},
        )
    if not found:
        raise UserError(f"{study.path}: contains no finished run; name the folder that `tuneoff compare` wrote")
    return found


def _drift(name: str, one: _ComparedRun, two: _ComparedRun, changed: Set[str], metric: str) -> RunDrift:
    ids = _common_ids(one, two, changed)
    pairs = [
        (one.rows[key], two.rows[key])
        for key in ids
        if one.rows[key].scores.get(metric) is not None and two.rows[key].scores.get(metric) is not None
    ]
    changes = [(after.scores[metric] or 0.0) - (before.scores[metric] or 0.0) for before, after in pairs]
    same = [before.text == after.text for before, after in pairs]
    texts = any(before.text for before, _ in pairs) and any(after.text for _, after in pairs)
    count = max(1, len(pairs))
    return RunDrift(
        run=name,
        documents=len(ids),
        total=sum(changes) / count if pairs else None,
        training=sum(each for each, equal in zip(changes, same, strict=True) if not equal) / count if texts else None,
        scoring=sum(each for each, equal in zip(changes, same, strict=True) if equal) / count if texts else None,
        same_texts=sum(same) / count if texts else None,
        loss=None if one.loss is None or two.loss is None else two.loss - one.loss,
    )


def _changed_settings(one: _ComparedRun, two: _ComparedRun) -> Iterable[str]:
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


def _data_sentences(documents: SharedDocuments) -> Iterable[str]:
    if not documents.all_shared:
        changed = ""
        if documents.changed:
            changed = f"; {plural(documents.changed, 'id')} in both with other texts"
        yield (
            f"The test documents differ: {documents.shared} are in both studies, of {documents.first} and "
            f"{documents.second}{changed}. Only those in both are compared."
        )
    if documents.same_data is False:
        yield "The data differ, so a difference can come from the training documents as well as from the training."


def _metric_sentences(metric: str, other: str) -> Iterable[str]:
    if metric != other:
        own = _title(metric)
        yield f"The first study is judged by {own}, the second by {_title(other)}; {own} is compared."


def _title(metric: str) -> str:
    return METRICS[metric].title if metric in METRICS else metric


def _sentences(runs: tuple[RunDrift, ...], settings: list[str], metric: str) -> Iterable[str]:
    moved = [run for run in runs if run.loss is not None and abs(run.loss) > _SAME_LOSS]
    yield f"Both studies have {plural(len(runs), 'run')} in common; the validation loss of {len(moved):,} differs."
    unit = f"{METRICS[metric].unit if metric in METRICS else 'points'} of {_title(metric)}"
    known = [run for run in runs if run.training is not None]
    if known:
        most = max(known, key=lambda run: abs(run.total or 0.0))
        yield (
            f"The largest change is {most.total:+.2f} {unit} ({most.run}): {most.training:+.2f} from texts that "
            f"differ, {most.scoring:+.2f} from other scores of equal texts."
        )
    if any(run.total is None for run in runs):
        yield "Runs without a number have no scored test document in common."
    if any(run.total is not None and run.training is None for run in runs):
        yield "Where texts were not kept, drift of training and drift of scoring cannot be separated."
    if settings:
        more = (
            f"; and {len(settings) - _SHOWN_SETTINGS} more (--json lists all)"
            if len(settings) > _SHOWN_SETTINGS
            else ""
        )
        yield f"Settings that differ: {'; '.join(settings[:_SHOWN_SETTINGS])}{more}."
