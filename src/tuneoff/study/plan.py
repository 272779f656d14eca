"""From a study to its runs: every default filled in, every run named by the content of what goes into it.

A study folder holds `study.json` (what was asked for) and `plan.json` (contents and the runs that belong to it). The
same study on the same folder does only what is missing; a different one is refused with a list of the differences.
"""

import dataclasses
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tuneoff import methods, record
from tuneoff.errors import UserError
from tuneoff.methods import kind_of
from tuneoff.methods.protocol import Method
from tuneoff.record import NUMERICS_VERSION, write_json
from tuneoff.spec import MethodSpec, ModelSpec, RunSpec, StudySpec, content_hash
from tuneoff.spec.run import Scalar
from tuneoff.study import search
from tuneoff.study.lock import LOCK_FILE
from tuneoff.study.search import Trial

# Where a file lies does not change what is in it: in a run's id the contents stand for these.
LOCATIONS = ("source", "config", "train_file", "validation_file", "test_file")
# None of these touches a run that is there: they add runs and rows, or are compared one by one.
MAY_GROW = (
    "name",
    "methods",
    "models",
    "seeds",
    "predictions",
    "hyperparameters",
    "claims",
    "fractions",
    "trials",
    "search_at",
)


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study. `folder` is relative to the study folder."""

    spec: RunSpec
    run_id: str
    name: str

    @property
    def folder(self) -> Path:
        """`runs/<name>-<id>`."""
        return Path("runs") / f"{self.name}-{self.run_id}"


@dataclass(frozen=True)
class Contents:
    """Hashes of what the names in a study stand for."""

    data: str
    models: Mapping[str, str]  # name -> hash


def resolve(study: StudySpec) -> dict[str, Method]:
    """The study's methods with all hyper-parameters filled in. Raises `UserError` for a name or value that is wrong."""
    return {name: methods.build(name, study.hyperparameters.get(name, {})) for name in study.methods}


def hyperparameters_of(method: Method) -> dict[str, Any]:
    """All hyper-parameters of a built method."""
    if not dataclasses.is_dataclass(method) or isinstance(method, type):
        raise TypeError(f"{method!r} is no dataclass instance")
    return dataclasses.asdict(method)


@dataclass(frozen=True)
class Cell:
    """The trials of one method on one model and one share of the data. `chosen` is None until all of them are done."""

    model: str
    method: str
    fraction: float
    name: str  # the hyper-parameter that is searched
    tried: tuple[tuple[PlannedRun, Trial], ...]
    reserve_because: str | None
    chosen: Scalar


@dataclass(frozen=True)
class Expansion:
    """The runs that are known so far, and the searches behind them. `complete`: no run will come that is not known."""

    runs: tuple[PlannedRun, ...]
    cells: tuple[Cell, ...]
    complete: bool


LossOf = Callable[[PlannedRun], float | None]


def _no_losses(_run: PlannedRun) -> None:
    return None


def expand(study: StudySpec, contents: Contents, loss_of: LossOf = _no_losses) -> Expansion:
    """The runs of a study: models x methods x shares of the data x seeds, seeds paired across methods.

    With trials, the final runs of a method are known when all its trials have a loss (`loss_of`, None for one that was
    not run yet). A method whose seed changes nothing runs once; where its setting is the one it has on all the data, a
    smaller share needs no run of its own. `reserved_tokens` is the largest overhead of all methods: every method then
    sees the same part of each document.
    """
    return _Expander(study, contents, loss_of).expand()


def count(study: StudySpec) -> int:
    """How many runs a study has at most, trials included."""
    total = 0
    for name in study.methods:
        seeds = study.seeds if kind_of(name).seeded else 1
        shares = len(study.fractions)
        tries = bool(study.trials) and search.searched(name, study.hyperparameters.get(name, {})) is not None
        alike = not kind_of(name).seeded and (not tries or study.search_at == "full")
        total += seeds * (1 if alike else shares)
        total += (study.trials + 1) * (1 if study.search_at == "full" else shares) if tries else 0
    return total * len(study.models)


class _Expander:
    def __init__(self, study: StudySpec, contents: Contents, loss_of: LossOf) -> None:
        self._study, self._contents, self._loss_of = study, contents, loss_of
        self._reserved = max(method.overhead_tokens for method in resolve(study).values())
        self._slugs = _slugs(study.models)
        self._runs: list[PlannedRun] = []
        self._cells: list[Cell] = []
        self._complete = True

    def expand(self) -> Expansion:
        finals = []
        for model in self._study.models:
            for name in self._study.methods:
                finals += self._method(model, name)
        return Expansion((*self._runs, *finals), tuple(self._cells), self._complete)

    def _method(self, model: ModelSpec, name: str) -> list[PlannedRun]:
        """The final runs of one method; its trials go to `self._runs`, ahead of all final runs."""
        fixed = self._study.hyperparameters.get(name, {})
        kind = kind_of(name)
        chosen: dict[float, Mapping[str, Any] | None] = {}
        for fraction in reversed(self._study.fractions):  # all the data first: `search_at` may take its choice
            if self._study.search_at == "full" and fraction < 1:
                chosen[fraction] = chosen[1.0]
            else:
                chosen[fraction] = self._search(model, name, fixed, fraction)
        finals = []
        for fraction, values in chosen.items():
            if values is None:
                self._complete = False
                continue
            if fraction < 1 and not kind.seeded and values == chosen[1.0]:
                continue
            label = "" if fraction == 1 else f"-f{fraction:g}"
            for seed in range(self._study.seeds if kind.seeded else 1):
                finals.append(self._run(model, name, values, fraction, seed, f"{label}-s{seed}", "final"))
        return finals

    def _search(
        self, model: ModelSpec, name: str, fixed: Mapping[str, Scalar], fraction: float
    ) -> Mapping[str, Any] | None:
        """The setting for the final runs, None while trials are missing."""
        parameter = search.searched(name, fixed)
        if not self._study.trials or parameter is None:
            return fixed
        tried: list[tuple[PlannedRun, Trial]] = []

        def attempt(value: Scalar) -> None:
            label = "" if fraction == 1 else f"-f{fraction:g}"
            values = {**fixed, parameter: value}
            run = self._run(model, name, values, fraction, search.TRIAL_SEED, f"{label}-trial{len(tried) + 1}", "trial")
            self._runs.append(run)
            loss = self._loss_of(run)
            tried.append((run, Trial(value, math.nan if loss is None else loss)))

        because = None
        for value in search.grid(name, parameter, self._study.trials):
            attempt(value)
        if not any(math.isnan(trial.loss) for _, trial in tried):
            value, because = search.reserve(name, parameter, [trial for _, trial in tried])
            attempt(value)
        done = because is not None and not any(math.isnan(trial.loss) for _, trial in tried)
        winner = search.choose([trial for _, trial in tried]) if done else None
        self._cells.append(
            Cell(model.name, name, fraction, parameter, tuple(tried), because, winner.value if winner else None)
        )
        return {**fixed, parameter: winner.value} if winner else None

    def _run(
        self,
        model: ModelSpec,
        name: str,
        values: Mapping[str, Any],
        fraction: float,
        seed: int,
        label: str,
        role: Literal["final", "trial"],
    ) -> PlannedRun:
        study = self._study
        resolved = MethodSpec(name=name, hyperparameters=hyperparameters_of(methods.build(name, values)))
        train = study.train
        if fraction < 1 and train.min_steps is None:
            train = train.model_copy(update={"min_steps": study.step_floor})
        spec = RunSpec(
            model=model,
            prompt=study.prompt,
            data=study.data,
            method=resolved,
            train=train,
            generate=study.generate,
            seed=seed,
            reserved_tokens=self._reserved,
            fraction=fraction,
            role=role,
        )
        prefix = f"{self._slugs[model.name]}-" if len(study.models) > 1 else ""
        run_id = run_id_of(spec, self._contents.models[model.name], self._contents.data)
        return PlannedRun(spec, run_id, f"{prefix}{name.replace(':', '-')}{label}")


def run_id_of(spec: RunSpec, model_hash: str, data_hash: str) -> str:
    """16 hex digits over the resolved settings, the model's and the data's content and the version of the numerics."""
    settings = spec.model_dump(mode="json")
    for key in LOCATIONS:
        settings["data"].pop(key)
    settings["model"].pop("name")
    settings["model"].pop("revision")
    return content_hash({"spec": settings, "model": model_hash, "data": data_hash, "numerics": NUMERICS_VERSION})


def _slugs(models: tuple[ModelSpec, ...]) -> dict[str, str]:
    """Short names for folders: the last part of the model's name, numbered where two would be alike."""
    names = [model.name for model in models]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"model {doubled} is named twice; name every model once")
    slugs: dict[str, str] = {}
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9._]+", "-", Path(name).name.removesuffix(".gguf")).strip("-.")[:24] or "model"
        taken = sum(other == slug or other.startswith(f"{slug}.") for other in slugs.values())
        slugs[name] = f"{slug}.{taken + 1}" if slug in slugs.values() else slug
    return slugs


def is_done(study_folder: Path, run: PlannedRun) -> bool:
    """Whether a finished record of exactly this run lies in the study folder."""
    folder = study_folder / run.folder
    if not (folder / "record.json").exists():
        return False
    try:
        found = record.read_record(folder)
    except UserError:
        return False  # damaged: run it again
    done = found.status == "finished" or (found.status == "diverged" and run.spec.role == "trial")
    return done and found.run_id == run.run_id


def trial_loss(study_folder: Path, run: PlannedRun) -> float | None:
    """The validation loss of a trial: infinite where it diverged or failed, None where it must still be run."""
    folder = study_folder / run.folder
    if not (folder / "record.json").exists():
        return None
    try:
        found = record.read_record(folder)
    except UserError:
        return None
    if found.run_id != run.run_id or found.status in ("interrupted", "running"):
        return None
    loss = found.curve.best_validation_loss
    return loss if found.status == "finished" and loss is not None else math.inf


def claim(study_folder: Path, study: StudySpec, contents: Contents, runs: Sequence[PlannedRun]) -> None:
    """Make the study folder this study's own: create it, or check that it was; write `study.json` and `plan.json`.

    Raises `UserError` when the folder cannot be written or belongs to a different study.
    """
    check_folder(study_folder, study, contents)
    try:
        write_json(study_folder / "study.json", study.model_dump(mode="json"))
        write_json(
            study_folder / "plan.json",
            {**_fingerprint(contents), "runs": [run.folder.name for run in runs]},
        )
    except OSError as error:
        raise UserError(f"{study_folder}: cannot be written ({error.strerror}); choose another --output") from error


def check_folder(study_folder: Path, study: StudySpec, contents: Contents) -> None:
    """Raise `UserError` when this study may not use the folder. Changes nothing."""
    check_writable(study_folder)
    path = study_folder / "study.json"
    if not path.exists():
        if study_folder.is_dir() and any(entry.name != LOCK_FILE for entry in study_folder.iterdir()):
            raise UserError(f"{study_folder}: holds other files and no study; choose an empty folder with --output")
        return
    try:
        earlier = StudySpec.model_validate_json(path.read_text(encoding="utf-8"))
        fingerprint = json.loads((study_folder / "plan.json").read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{path}: damaged or from another version of tuneoff; choose another --output") from error
    changes = [*differences(earlier, study), *_changed_contents(fingerprint, contents)]
    if changes:
        shown = "; ".join(changes[:6]) + (f"; and {len(changes) - 6} more" if len(changes) > 6 else "")
        raise UserError(f"{study_folder}: belongs to a different study ({shown}); choose another --output")


def check_writable(folder: Path) -> None:
    """The nearest existing folder must take new files; nothing is left behind."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"{existing}: is a file, not a folder; choose another --output")
    try:
        handle, name = tempfile.mkstemp(dir=existing, prefix=".tuneoff-")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from error
    os.close(handle)
    Path(name).unlink()


def differences(earlier: StudySpec, study: StudySpec) -> list[str]:
    """Settings that two studies do not share, as `name: before -> now`; what only adds or leaves out runs is none."""
    before = dict(_settings(_comparable(earlier)))
    after = dict(_settings(_comparable(study)))
    changes = [
        f"{key}: {before.get(key, 'default')} -> {after.get(key, 'default')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    for name in set(earlier.methods) & set(study.methods):
        old, new = (
            hyperparameters_of(methods.build(name, side.hyperparameters.get(name, {}))) for side in (earlier, study)
        )
        changes += [f"{name}.{key}: {old[key]} -> {new[key]}" for key in old if old[key] != new[key]]
    known = {model.name: model for model in earlier.models}
    for model in study.models:
        if model.name in known and model != known[model.name]:
            changes.append(f"settings of model {model.name}")
    return changes


def _comparable(study: StudySpec) -> dict[str, Any]:
    plain = study.model_dump(mode="json", exclude=set(MAY_GROW))
    for key in LOCATIONS:
        plain["data"].pop(key)
    return plain


def _settings(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf as (dotted name, plain value)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _settings(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def _fingerprint(contents: Contents) -> dict[str, Any]:
    return {"data": contents.data, "models": dict(contents.models), "numerics": NUMERICS_VERSION}


def _changed_contents(earlier: Mapping[str, Any], contents: Contents) -> Iterator[str]:
    if earlier.get("data") != contents.data:
        yield "the documents are not the same"
    for name, digest in contents.models.items():
        if earlier.get("models", {}).get(name, digest) != digest:
            yield f"the weights of model {name} are not the same"
    if earlier.get("numerics") != NUMERICS_VERSION:
        yield f"numerics: version {earlier.get('numerics')} -> {NUMERICS_VERSION}"
