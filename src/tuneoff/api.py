"""The functions of tuneoff in Python: `compare`, `load_study` and `judge`. They print nothing but progress."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args

from tuneoff.checked_export import DOCUMENTS_TO_CHECK, ExportFile, export_run
from tuneoff.errors import UserError
from tuneoff.export.gguf_model import NumberType
from tuneoff.export.wanted import Form, Wanted
from tuneoff.extras import require_tune
from tuneoff.methods import Method
from tuneoff.methods.rows import row_of
from tuneoff.options import DATA_FILES, OPTION_PATHS, StrPath, StudyOptions
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Record
from tuneoff.results.store import placed, url_of
from tuneoff.results.study_dir import StoredStudy, StudyDir
from tuneoff.results.study_state import Effort
from tuneoff.results.summary import ModelToUse, Summary, Verdict
from tuneoff.scored_systems import ColumnOptions, read_scores
from tuneoff.scores import is_score_source
from tuneoff.spec import StudySpec
from tuneoff.spec.row_names import MARK, method_of
from tuneoff.spec.toml import Override
from tuneoff.study.executor import SHARED, Observer, Observers, SilentObserver, is_shared, open_executor
from tuneoff.study.launcher import Layout
from tuneoff.study.notebook_progress import NotebookProgress, in_notebook
from tuneoff.study.progress import Progress
from tuneoff.study.runner import Limits, PreparedStudy, carry_out_study, prepare
from tuneoff.study.study_file import check_study, read_study
from tuneoff.study.watching import StudyWatch
from tuneoff.text import did_you_mean, join_words, parse_duration

if TYPE_CHECKING:
    from tuneoff.report import WrittenReport
    from tuneoff.run import Generator
    from tuneoff.trackers import Tracker

Rows = object  # a list of mappings, a pandas DataFrame or a `datasets` Dataset
MethodLike = str | Method | type[Method]
Methods = Sequence[MethodLike] | Mapping[str, MethodLike]  # or each under the name of its row


def compare(
    study: StrPath | StudySpec | None = None,
    *,
    preset: str | None = None,
    methods: Methods | None = None,
    train: Rows | None = None,
    validation: Rows | None = None,
    test: Rows | None = None,
    predictions: Mapping[str, StrPath] | None = None,
    output: StrPath | None = None,
    budget: str | float | None = None,
    equal: Effort = "examples",
    workers: int | Literal["auto"] = 1,
    engine: str = "local",
    report_to: str | Sequence[str] = (),
    keep_texts: bool = True,
    keep_earlier: bool = False,
    progress: bool | None = None,
    **options: Unpack[StudyOptions],
) -> Study:
    """Compare ways of adapting a model, under equal effort.

    Args:
        study: A study file (TOML) or a `StudySpec`; without one, `options` describe the study.
        preset: A study that comes with tuneoff, such as `starter`.
        methods: Ids of methods, or methods with their hyper-parameters: `["zero_shot", LoRA(r=16)]`. Values that differ
            from the defaults are fixed; trials may search the others. Several settings of one method are rows of one
            table: `["lora", "lora@r=64"]`, `[LoRA(), LoRA(r=64)]`, or with names of their own
            `{"lora@small": LoRA(r=4), "lora@large": LoRA(r=64)}`.
        train: Examples as a list of mappings, a pandas DataFrame or a `datasets` Dataset, instead of `train_file`.
        validation: The same for validation; without it, a part of the training documents is used.
        test: The same for the test split.
        predictions: Files with the outputs of other systems, by the name that each gets in the table: JSON Lines with
            `id` and `text`.
        output: Folder of the study; `runs/<name>` by default. Runs that are there are not repeated. Or a URL of an
            object store (`s3://bucket/study`), to which all of it is copied.
        budget: Time limit for the whole study: seconds, or text such as `"20m"`.
        equal: What the trained methods get an equal amount of.
        workers: Concurrent runs; `"auto"` measures which number is fastest.
        engine: What carries out the runs: `local`, `shared` (other machines take part by `tuneoff work`), `slurm`
            (an array of workers), `ray` (tasks of a Ray cluster), or an executor of another package.
            `slurm:workers=8,time=4h` and `ray:address=auto,cpus=2` set more.
        report_to: Experiment trackers, such as `"wandb"`; they need `workers=1`.
        keep_texts: False keeps documents and generated texts out of the folder.
        keep_earlier: Whether finished runs of earlier versions of tuneoff's numerics count.
        progress: Whether to show progress: a bar in a notebook, lines on stderr elsewhere. By default in notebooks.
        **options: Settings of the study, named as the flags of `tuneoff compare`.

    Raises:
        UserError: For every mistake in what was asked for, before anything is trained.
    """
    from tuneoff.trackers import close_trackers, open_trackers

    require_tune("compare")
    rows = {"train": train, "validation": validation, "test": test}
    spec = _spec_of(study, preset, methods, rows, options, predictions)
    place = Path("runs") / spec.name if output is None else output if url_of(output) else Path(output).expanduser()
    limits = _limits(budget, equal, workers)
    open_executor(engine, Layout(limits.workers or 1))  # its settings are checked before anything is measured
    tracked = [report_to] if isinstance(report_to, str) else report_to
    with (
        placed(place, warnings.warn) as folder,
        contextlib.ExitStack() as held,
        _progress(progress, spec.metric, folder) as observer,
    ):
        trackers = open_trackers(tracked, folder, limits.workers, engine)
        prepared = prepare(
            spec,
            folder,
            limits,
            keep_earlier=keep_earlier,
            observer=observer,
            held=held,
            corrects=engine == "local",
        )
        done = carry_out(prepared, observer, engine=engine, trackers=trackers, keep_texts=keep_texts)
    close_trackers(trackers)
    return done


def carry_out(
    prepared: PreparedStudy,
    observer: Observer,
    *,
    engine: str = "local",
    trackers: Sequence[Tracker] = (),
    keep_texts: bool = True,
) -> Study:
    """Carry out a prepared study, and write its summary and its report. Raises `UserError` for an unknown engine."""
    from tuneoff.trackers.observer import TrackerObserver
    from tuneoff.verdict.summarize import summarize

    observers = [observer]
    if trackers:
        observers.append(TrackerObserver(trackers, prepared.spec.name, keep_texts=keep_texts))
    if engine == "local" and prepared.dir.is_shared():
        engine = SHARED  # other machines may carry out runs of this study
    with open_executor(engine, prepared.layout) as executor:
        stored = carry_out_study(
            prepared,
            executor,
            Observers(*observers),
            keep_texts=keep_texts,
            shared=is_shared(engine),
            correct=engine == "local",
        )
    study = Study(stored, summarize(stored))
    try:
        problem = study.write_report().pictures.problem
    except OSError as error:  # a full disk: what was measured is stored, and is returned
        problem = f"{error.filename or study.path}: {error.strerror}"
    return dataclasses.replace(study, report_problem=problem)


def load_study(folder: StrPath) -> Study:
    """Read a study folder and judge it. Needs no torch. Raises `UserError` if the folder holds no study."""
    from tuneoff.verdict.summarize import summarize

    stored = StudyDir(Path(folder).expanduser()).load()
    if stored.spec is None:
        raise UserError(f"{folder}: contains no study.json; name the folder that `tuneoff compare` wrote")
    return Study(stored, summarize(stored))


def judge(
    study: Study | StrPath | Rows,
    *,
    metric: str | None = None,
    margin: float | None = None,
    lower_is_better: bool = False,
    **columns: Unpack[ColumnOptions],
) -> tuple[Verdict, ...]:
    """The verdicts of a study under another metric or margin, one for each base model; or the verdict about scores.

    Args:
        study: A study, its folder, or anybody's scores as `read_scores` takes them.
        metric: The metric to judge by; None is the study's own, or the first of the scores.
        margin: Difference that does not matter in practice, in points; None is the study's own.
        lower_is_better: For scores: whether less of the metric is better.
        **columns: For scores: `systems` to compare, and names of columns.

    Raises:
        UserError: For a metric in which more is not better, and for scores that cannot be read.
    """
    if not isinstance(study, Study | str | os.PathLike) or _holds_scores(study):
        found = read_scores(study, metric=metric, margin=margin, lower_is_better=lower_is_better, **columns)
        return (found.verdict,)
    if lower_is_better or columns:
        raise UserError("lower_is_better= and names of columns are for scores, and this is a study; leave them out")
    loaded = study if isinstance(study, Study) else load_study(study)
    return loaded.judge_models(metric=metric, margin=margin)


def judge_together(
    *studies: Study | StrPath, metric: str | None = None, margin: float | None = None
) -> tuple[Verdict, ...]:
    """One verdict over the rows of several studies of the same test documents, for each base model that they share.

    Rows of one name that are not the same runs have the name of their study in front.

    Args:
        *studies: Studies or their folders.
        metric: The metric to judge by; None is the studies' own, which then must be one.
        margin: Difference that does not matter in practice, in points; None is the studies' own.

    Raises:
        UserError: For studies that cannot be compared, with the reason.
    """
    from tuneoff.verdict.together import judge_studies

    loaded = [study if isinstance(study, Study) else load_study(study) for study in studies]
    named = {study.path.resolve().name: study.stored for study in loaded}
    if len(named) < len(loaded):
        named = {str(study.path): study.stored for study in loaded}
    if len(named) < 2:
        raise UserError("judge_together compares studies: give two or more folders")
    found = judge_studies(named, metric, margin)
    if found.reason is not None:
        raise UserError(f"{join_words(list(named))} have no common verdict: {found.reason}")
    return found.verdicts


def _holds_scores(study: Study | StrPath) -> bool:
    if isinstance(study, Study):
        return False
    path = Path(study)
    return not (path.is_dir() and StudyDir(path).is_begun()) and is_score_source(str(path))


@dataclass(frozen=True)
class Study:
    """A study and what it found."""

    stored: StoredStudy
    summary: Summary
    report_problem: str | None = None
    """Why the report or its pictures could not be written when the study was carried out; None if they were."""

    @property
    def path(self) -> Path:
        """The study folder."""
        return self.stored.path

    @property
    def name(self) -> str:
        """The study's name."""
        return self.summary.name

    @property
    def spec(self) -> StudySpec:
        """What was asked for."""
        assert self.stored.spec is not None
        return self.stored.spec

    @property
    def complete(self) -> bool:
        """Whether no run is missing. A run that failed is not missing: its record says why."""
        return self.stored.complete

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One verdict for each base model."""
        return self.summary.verdicts

    @property
    def verdict(self) -> Verdict:
        """The verdict on the only base model. Raises `UserError` for a study of several, or without a scored run."""
        return _only(self.verdicts)

    def runs(self) -> tuple[Record, ...]:
        """The records of all runs, trials included."""
        return tuple(self.stored.records)

    def table(self) -> Any:
        """The comparison, one row for each method, baseline and outside system: a pandas DataFrame, or a list of
        dictionaries if pandas is not installed.

        Scores are in the unit of their metric, costs in the unit of their axis (seconds, bytes, joules). `seeds` is the
        number of seeds that scores are means over: those that all methods have.
        """
        rows = []
        for row in self.summary.rows:
            plain: dict[str, Any] = {"name": row.name, "title": row.title, "kind": row.kind, "model": row.model}
            plain |= {"seeds": row.compared_seeds, "gain": row.gain.mean if row.gain else None}
            plain |= {metric: value.mean for metric, value in row.scores.items()}
            plain |= {axis: cost.value for axis, cost in row.costs.items()}
            rows.append(plain)
        return _frame(rows)

    def predictions(self) -> Any:
        """Every generated text of the final runs with its scores: a pandas DataFrame, or a list of dictionaries."""
        rows = []
        for stored in self.stored.runs:
            spec = stored.record.spec
            if spec.role != "final":
                continue
            about = {"run": stored.name, "model": spec.model.name, "method": spec.method.name, "seed": spec.seed}
            about |= {"fraction": spec.fraction}
            rows += [{**about, "id": row.id, "text": row.text, **row.scores} for row in stored.predictions]
        return _frame(rows)

    def judge(self, *, metric: str | None = None, margin: float | None = None) -> Verdict:
        """The verdict under another metric or margin (in points), for the only base model.

        Raises `UserError` for a metric in which more is not better, and for a negative margin.
        """
        return _only(self.judge_models(metric=metric, margin=margin))

    def judge_models(self, *, metric: str | None = None, margin: float | None = None) -> tuple[Verdict, ...]:
        """The same for each base model."""
        from tuneoff.verdict.judge import judge_study

        if margin is not None and not 0 <= margin < math.inf:
            raise UserError(f"margin={margin!r}: a number of points was expected, 0 or more")
        return tuple(judged.verdict for judged in judge_study(self.stored, metric, margin))

    def plot(self, name: str = "quality") -> Any:
        """A chart of the report as an Altair chart. Raises `UserError` for an unknown name or without data to draw."""
        from tuneoff import report

        require_tune("a chart", ("altair",))
        drawn = report.chart(name, self.summary, self.stored)
        if drawn is None:
            raise UserError(f"{self.path}: nothing to draw for the chart {name!r}")
        return drawn

    def report(self) -> Path:
        """Write the summary, the report page and its charts into the study folder, and return the page's path."""
        return self.write_report().page

    def write_report(self) -> WrittenReport:
        """As `report`. The result also says which pictures could be drawn."""
        from tuneoff import report

        self.stored.dir.write_summary(self.summary)
        written = report.render(self.summary, self.stored)
        self.stored.dir.cover_outputs()
        return written

    @cached_property
    def winner(self) -> Winner:
        """The run to use. Raises `UserError` if no run can be used."""
        found = self.summary.winner
        stored = self.stored.run(found.run) if found else None
        if found is None or stored is None:
            raise UserError(f"{self.path}: no finished run to use")
        return Winner(stored, found)

    @property
    def exit_code(self) -> int:
        """0 if all final runs finished, 3 if some did not, 1 if none did. Trials may diverge."""
        finals = [record for record in self.runs() if record.spec.role == "final"]
        finished = sum(record.status == "finished" for record in finals)
        if finals and finished == len(finals) and self.complete:
            return 0
        return 3 if finished else 1

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {len(self.stored.runs)} runs, {str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Table and verdict, for notebooks."""
        from tuneoff.report.notebook_table import study_html

        return study_html(self.summary)


@dataclass(frozen=True)
class Winner:
    """The run that a study hands over. `why` says why it is this one."""

    stored: StoredRun
    choice: ModelToUse

    @property
    def method(self) -> str:
        """Id of its method."""
        return self.choice.method

    @property
    def why(self) -> str:
        """Why it is this run."""
        return self.choice.why

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self.stored.dir.path

    @property
    def artefact(self) -> Path:
        """Folder of its weights."""
        return self.stored.dir.artefact

    def load(self, *, trust_remote_code: bool = False) -> Generator:
        """Load the tuned model; `.generate([...])` then writes texts.

        A model whose repository has code of its own needs `trust_remote_code`. Raises `UserError` if files are missing.
        """
        require_tune("a trained model")
        from tuneoff.run import load_adapted

        return load_adapted(self.stored, trust_remote_code=trust_remote_code)

    def export(
        self,
        to: Form,
        output: StrPath,
        *,
        quantize: NumberType = "f16",
        documents: int = DOCUMENTS_TO_CHECK,
        fields: Mapping[str, str] | None = None,
        trust_remote_code: bool = False,
    ) -> ExportFile:
        """Write the model for another program into a new folder, and compare what that program writes with the run.

        Args:
            to: `adapter`, `merged`, `gguf` or `ollama`.
            output: The folder.
            quantize: Numbers of a GGUF file.
            documents: Largest number of test documents to compare on; 0 does not run the export.
            fields: For `ollama`: values of the fields in the instruction.
            trust_remote_code: Whether code that comes with the model may run.

        Raises:
            UserError: This run cannot be exported so; the message names the nearest alternative.
        """
        require_tune("an export")
        wanted = Wanted(to, quantize, dict(fields or {}))
        return export_run(
            self.stored,
            wanted,
            Path(output).expanduser(),
            documents=documents,
            trust_remote_code=trust_remote_code,
        )


def _spec_of(
    study: StrPath | StudySpec | None,
    preset: str | None,
    methods: Methods | None,
    rows: Mapping[str, Rows | None],
    options: Mapping[str, Any],
    predictions: Mapping[str, StrPath] | None = None,
) -> StudySpec:
    if isinstance(study, StudySpec):
        more = (preset, methods, predictions, *rows.values())
        trusted = options.get("trust_remote_code") is True
        if set(options) - {"trust_remote_code"} or any(value is not None for value in more):
            raise UserError("a StudySpec is complete; change it with `model_copy` instead of giving more arguments")
        if not trusted and any(model.trust_remote_code for model in study.models):
            # The spec may have been read from the folder or file of a stranger.
            raise UserError(
                "a StudySpec cannot allow code that comes with a model; give compare(..., trust_remote_code=True) too "
                "if you trust its authors"
            )
        return check_study(study)
    overrides = list(_overrides(options))
    for split, value in rows.items():
        if value is not None:
            if f"{split}_file" in options:
                raise UserError(f"both {split} and {split}_file were given: keep one of them")
            overrides.append(Override(("data", f"{split}_file"), str(_stored_rows(value)), f"{split}="))
    overrides += [
        Override(("predictions", name), os.fspath(path), f"predictions[{name!r}]=")
        for name, path in (predictions or {}).items()
    ]
    if methods is not None:
        overrides += _method_overrides(methods)
    return read_study(None if study is None else Path(study), preset, overrides)


def _overrides(options: Mapping[str, Any]) -> Iterable[Override]:
    for name, value in options.items():
        if name not in OPTION_PATHS:
            raise UserError(f"compare has no setting {name!r}{did_you_mean(name, OPTION_PATHS)}")
        if name == "model":
            names = value if isinstance(value, list | tuple) else [value]
            if not all(isinstance(model, str | os.PathLike) for model in names):
                raise UserError(f"model={value!r}: a name or a folder was expected, or a list of them")
            value = [{"name": os.fspath(model)} for model in names]
        elif name == "fractions":
            try:
                value = sorted({1.0, *([value] if isinstance(value, int | float) else map(float, value))})
            except (TypeError, ValueError) as error:
                raise UserError(f"fractions={value!r}: numbers were expected, for example [0.1, 0.5, 1]") from error
        elif name in DATA_FILES and isinstance(value, list | tuple):
            if not value or not all(isinstance(path, str | os.PathLike) for path in value):
                raise UserError(f"{name}={value!r}: a file was expected, or a list of files")
            value = os.fspath(value[0]) if len(value) == 1 else tuple(os.fspath(path) for path in value)
        elif isinstance(value, os.PathLike):
            value = os.fspath(value)
        yield Override(OPTION_PATHS[name], value, f"{name}=")


def _method_overrides(methods: Methods) -> Iterable[Override]:
    if isinstance(methods, str | Method | type):
        example = methods.__name__ if isinstance(methods, type) else repr(methods)
        raise UserError(f"methods={example}: give a list, for example methods=[{example}]")
    given: list[tuple[str | None, MethodLike]] = [(None, method) for method in methods]
    if isinstance(methods, Mapping):
        given = list(methods.items())
    for _, method in given:
        if not isinstance(method, str | Method) and not (isinstance(method, type) and issubclass(method, Method)):
            raise UserError(f"methods=: {method!r} is not a method; give its id or its class, such as 'lora' or LoRA()")
    rows = Counter(method_of(_named(method)) for _, method in given)
    names = []
    for own, method in given:
        name = _named(method)
        changed = {} if isinstance(method, str | type) else method.changed_hyperparameters
        shared = changed and own in (None, name) and rows[name] > 1
        if own is not None and (method_of(own) != method_of(name) or shared):
            raise UserError(f"methods={{{own!r}: ...}}: write {name}{MARK}NAME, where NAME distinguishes the row")
        if shared:  # the row is known by its settings
            names.append(row_of(name, changed).name)
            continue
        names.append(own or name)
        for key, value in changed.items():
            yield Override(("hyperparameters", own or name, key), value, f"{type(method).__name__}({key}=)")
    yield Override(("methods",), tuple(names), "methods=")


def _named(method: MethodLike) -> str:
    return method if isinstance(method, str) else method.name


def _stored_rows(rows: Rows) -> Path:
    from tuneoff.cache import cache_folder
    from tuneoff.data.in_memory import write_rows

    return write_rows(rows, cache_folder() / "rows")


def _limits(budget: str | float | None, equal: Effort, workers: int | Literal["auto"]) -> Limits:
    seconds = parse_duration(budget) if isinstance(budget, str) else budget
    if budget is not None and (seconds is None or not 0 < seconds < math.inf):
        raise UserError(f"budget={budget!r}: a time such as '20m', '90s' or '1h30m' was expected, or seconds")
    if equal not in get_args(Effort):
        raise UserError(f"equal={equal!r}: 'examples' or 'time'")
    if workers != "auto" and not isinstance(workers, int):
        raise UserError(f"workers={workers!r}: a number of concurrent runs, or 'auto'")
    return Limits(seconds, equal, None if workers == "auto" else workers)


@contextlib.contextmanager
def _progress(wanted: bool | None, metric: str, folder: Path) -> Iterator[Observer]:
    """An observer that shows progress, where it is wanted (None: in notebooks)."""
    if wanted is False or not (wanted or in_notebook()):
        yield SilentObserver()
        return
    watched = StudyWatch(folder)

    def board() -> list[str]:
        return watched.look().summary_lines()

    with NotebookProgress(board) if in_notebook() else Progress(metric=metric, board=board) as observer:
        yield observer


def _only(verdicts: Sequence[Verdict]) -> Verdict:
    if len(verdicts) == 1:
        return verdicts[0]
    if not verdicts:
        raise UserError("the study has no scored run yet, so there is no verdict")
    models = ", ".join(verdict.block or "" for verdict in verdicts)
    raise UserError(f"the study compares several models ({models}); use `verdicts` or `judge_models`")


def _frame(rows: list[dict[str, Any]]) -> Any:
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)
