"""One verdict over the rows of several studies that were scored on the same test documents.

Only what two studies share can be compared: the documents and their references, the metric, the ROUGE dialect, the
weights of the base model. Everything else in which they differ is a confound (`confounds_between`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from tuneoff import __version__
from tuneoff.metrics.registry import METRICS, deciding_metric
from tuneoff.results.cost_axes import Cost
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.run_record import Document, Record
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.study_state import DataFile
from tuneoff.results.summary import Confound, Summary, Verdict
from tuneoff.spec import json_hash
from tuneoff.text import join_words
from tuneoff.verdict.confounds import model_content
from tuneoff.verdict.decide import decide
from tuneoff.verdict.judge import exploratory_choices, planned_margin, planned_metric
from tuneoff.verdict.outputs import identical_methods, says_nothing
from tuneoff.verdict.score_verdict import score_rows
from tuneoff.verdict.scores import Scores, load_scores

Studies = Mapping[str, StoredStudy]
_Key = tuple[str, int]  # row, seed


@dataclass(frozen=True)
class Together:
    """The verdicts over the rows of all studies, one for each base model that several of them share.

    Without any, `reason` says why there is none.
    """

    verdicts: tuple[Verdict, ...] = ()
    scores: tuple[Scores, ...] = ()
    """What each verdict is about."""
    reason: str | None = None


@dataclass(frozen=True)
class _Part:
    """What one study says about a base model. `runs`: row -> its runs on all the data."""

    study: str
    scores: Scores
    runs: Mapping[str, tuple[StoredRun, ...]]
    outside: Mapping[str, RunOutputs]

    @property
    def record(self) -> Record:
        """Any of the runs."""
        return next(iter(self.runs.values()))[0].record

    def identity(self, row: str) -> dict[tuple[int, int], object]:
        """(Seed, fold) -> what is equal for the same run of another study: its id hashes all that it depends on."""
        if row in self.outside:
            return {(0, 0): self.outside[row].fingerprint()}
        return {
            (run.record.spec.seed, run.record.spec.data.fold or 0): run.record.run_id for run in self.runs.get(row, ())
        }


def judge_studies(studies: Studies, metric: str | None = None, margin: float | None = None) -> Together:
    """Judge all rows of several studies at once.

    Args:
        studies: the studies by the names that distinguish them.
        metric: a metric in which more is better; None for the studies' own, which then must be one.
        margin: difference that does not matter in practice, in points; None for the studies' own.

    Raises:
        UserError: the metric cannot decide, or a file is damaged.
    """
    reason = _documents_differ(studies) or (None if metric else _metrics_differ(studies))
    metric = deciding_metric(metric or planned_metric(next(iter(studies.values()))))
    reason = reason or _dialects_differ(studies, metric)
    if margin is None and len({planned_margin(study) for study in studies.values()}) > 1:
        listed = _listed(studies, lambda study: f"{planned_margin(study):g}")
        reason = reason or f"their margins differ ({listed}); add --margin POINTS"
    if reason is not None:
        return Together(reason=reason)
    margin = planned_margin(next(iter(studies.values()))) if margin is None else margin
    by_model: dict[str, list[_Part]] = {}
    for name, study in studies.items():
        for part in _parts(name, study, metric):
            by_model.setdefault(model_content(part.record), []).append(part)
    shared = [parts for parts in by_model.values() if len(parts) > 1]
    if not shared:
        return Together(reason="they have no base model in common, and base models are not compared with each other")
    verdicts, judged = [], []
    for parts in shared:
        scores = replace(_merged(parts, metric), block=parts[0].record.spec.model.name if len(shared) > 1 else None)
        verdict = decide(scores, margin)
        chosen = exploratory_choices(studies[parts[0].study], margin, metric)
        said = (*verdict.sentences, *chosen, *_about(parts, studies))
        verdicts.append(verdict.model_copy(update={"sentences": said}))
        judged.append(scores)
    return Together(tuple(verdicts), tuple(judged))


def summarize_together(together: Together, studies: Studies, confounds: Iterable[Confound]) -> Iterator[Summary]:
    """A summary of each verdict, for reports. `confounds`: what differs between the studies."""
    about = tuple(f"{'Caution: ' if one.changes_scores else ''}{one.model}: {one.description}" for one in confounds)
    documents = max(len(study.documents) for study in studies.values())
    for verdict, scores in zip(together.verdicts, together.scores, strict=True):
        name = join_words(list(studies))
        yield Summary(
            name=f"{name}, {verdict.block}" if verdict.block else name,
            created_at="",
            tuneoff_version=__version__,
            primary_metric=verdict.metric,
            data=DataFile(
                description="; ".join(f"{name}: {study.data.description}" for name, study in studies.items()),
                counts={"test": documents},
            ),
            rows=tuple(score_rows(scores)),
            verdicts=(verdict.model_copy(update={"sentences": (*verdict.sentences, *about)}),),
        )


def _listed(studies: Studies, value: Callable[[StoredStudy], str]) -> str:
    return ", ".join(f"{name}: {value(study)}" for name, study in studies.items())


def _documents_differ(studies: Studies) -> str | None:
    """Why the scores of the studies are not of the same documents and references; None if they are."""
    contents = {name: _contents(study.documents) for name, study in studies.items()}
    if missing := [name for name, found in contents.items() if not found]:
        hold = "holds" if len(missing) == 1 else "hold"
        return f"{join_words(missing)} {hold} no documents, so it is unknown what was scored"
    (first, known), *others = contents.items()
    for name, found in others:
        hashes = {studies[one].data.content_hash for one in (first, name)}
        withheld = [one for one in (first, name) if _without_texts(studies[one].documents)]
        if withheld and (None in hashes or len(hashes) > 1):
            keep = "keeps" if len(withheld) == 1 else "keep"
            return f"{join_words(withheld)} {keep} no texts (--no-texts), so references cannot be compared"
        same = sum(bool(withheld) or found[key] == digest for key, digest in known.items() if key in found)
        if same == len(known) == len(found):
            continue
        return (
            f"their test documents and references differ: {same:,} are the same, of {len(known):,} in {first} and "
            f"{len(found):,} in {name}"
        )
    return None


def _contents(documents: Iterable[Document]) -> dict[str, str]:
    """Digest of document and references by the id of a test example."""
    return {one.id: json_hash([one.group, one.document, one.references, one.fields]) for one in documents}


def _without_texts(documents: Sequence[Document]) -> bool:
    return not any(one.document or any(one.references) for one in documents)


def _metrics_differ(studies: Studies) -> str | None:
    if len({planned_metric(study) for study in studies.values()}) == 1:
        return None
    listed = _listed(studies, planned_metric)
    return f"they are judged by different metrics ({listed}); add --metric NAME"


def _dialects_differ(studies: Studies, metric: str) -> str | None:
    """Why scores by a metric of ROUGE are not of one dialect; None if they are."""
    if not metric.startswith("rouge"):
        return None
    dialects = {
        name: {run.record.signature for run in study.runs if run.record.spec.is_main} - {None}
        for name, study in studies.items()
    }
    if len(set().union(*dialects.values())) < 2:
        return None
    listed = "; ".join(f"{name}: {join_words(sorted(map(str, found)))}" for name, found in dialects.items())
    return f"their {METRICS[metric].title} is not the same ({listed})"


def _parts(name: str, study: StoredStudy, metric: str) -> Iterable[_Part]:
    """What a study says, by base model; of seeds only those that were planned whatever the results."""
    first = study.spec.looks[0] if study.spec is not None and study.spec.until_settled else None
    outside = {row: RunOutputs.of(rows) for row, rows in study.outside.items()}
    for scores in load_scores(study, metric):
        kept = {key: row for key, row in scores.scores.items() if first is None or key[1] < first}
        runs: dict[str, list[StoredRun]] = {}
        for run in study.runs:
            spec = run.record.spec
            own = spec.is_main and run.record.status == "finished" and scores.block in (None, spec.model.name)
            if own and (first is None or spec.seed < first):
                runs.setdefault(spec.method.name, []).append(run)
        if runs:
            yield _Part(name, replace(scores, scores=kept), {row: tuple(found) for row, found in runs.items()}, outside)


def _merged(parts: Sequence[_Part], metric: str) -> Scores:
    """The scores of all parts. A row that several studies have is one row if its runs are the same, else several."""
    names = _names(parts)
    scores: dict[_Key, Mapping[str, float | None]] = {}
    outputs: dict[_Key, RunOutputs] = {}
    titles: dict[str, str] = {}
    groups: dict[str, str] = {}
    costs: dict[str, Mapping[str, Cost]] = {}
    deterministic: set[str] = set()
    notes: list[str] = []
    for part in parts:
        own = part.scores
        groups |= own.groups
        notes += [f"{part.study}: {note}" for note in own.notes]
        for row in own.methods:
            name = names[part.study, row]
            clashes = name != row
            titles.setdefault(name, f"{own.title(row)} ({part.study})" if clashes else own.title(row))
            scores |= {(name, seed): found for (one, seed), found in own.scores.items() if one == row}
            by_seed: dict[int, list[RunOutputs]] = {}
            for run in part.runs.get(row, ()):
                by_seed.setdefault(run.record.spec.seed, []).append(run.outputs)
            outputs |= {(name, seed): RunOutputs.joined(found) for seed, found in by_seed.items()}
            if row in part.outside:
                outputs[name, 0] = part.outside[row]
            costs.setdefault(name, own.costs.get(row, {}))
            deterministic |= {name} if row in own.deterministic else set()
    return Scores(
        methods=tuple(titles),
        scores=scores,
        groups=groups,
        costs={name: found for name, found in costs.items() if found},
        deterministic=frozenset(deterministic),
        titles=titles,
        metric=metric,
        notes=tuple(dict.fromkeys(notes)),
        size=parts[0].scores.size,
        identical=identical_methods({key: found.fingerprint() for key, found in outputs.items()}),
        says_nothing=says_nothing(list(outputs.values())),
    )


def _names(parts: Sequence[_Part]) -> dict[tuple[str, str], str]:
    """(study, row) -> the row's name in the common verdict, which begins with the study where rows clash."""
    having: dict[str, list[_Part]] = {}
    for part in parts:
        for row in part.scores.methods:
            having.setdefault(row, []).append(part)
    names: dict[tuple[str, str], str] = {}
    for row, found in having.items():
        pairs = combinations([part.identity(row) for part in found], 2)
        same = all(_same_runs(one, other) for one, other in pairs)
        names |= {(part.study, row): row if same else f"{part.study}: {row}" for part in found}
    return names


def _same_runs(one: Mapping[tuple[int, int], object], other: Mapping[tuple[int, int], object]) -> bool:
    """Whether two studies have a row with the same runs; of one of them further seeds may be there."""
    shared = one.keys() & other.keys()
    return bool(shared) and all(one[seed] == other[seed] for seed in shared)


def _about(parts: Sequence[_Part], studies: Studies) -> Iterable[str]:
    names = [part.study for part in parts]
    yield (
        f"The rows of {join_words(names)} are compared together; the intervals hold for all of their pairs at once. "
        "A study that was planned after the results of another were seen makes this exploratory."
    )
    trials = {name: spec.trials for name in names if (spec := studies[name].spec) is not None}
    if len(set(trials.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in trials.items())
        yield f"Caution: the settings of a method were chosen by different numbers of trials ({listed})."
    if early := [name for name in names if (spec := studies[name].spec) is not None and spec.until_settled]:
        yield f"Of {join_words(early)}, which stopped when it was settled, only the seeds of the first look are used."
