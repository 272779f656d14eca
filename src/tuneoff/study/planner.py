"""From a study to its runs: every default filled in, every run named by the content of what goes into it."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuneoff import methods
from tuneoff.engine.batching import total_steps
from tuneoff.errors import UserError
from tuneoff.methods import kind_of
from tuneoff.methods.base import Method
from tuneoff.results.run_record import NUMERICS_VERSION
from tuneoff.spec import (
    TIMED_STEPS,
    CutAbove,
    MethodSpec,
    ModelSpec,
    RunSpec,
    StudySpec,
    TrainSpec,
    json_hash,
)
from tuneoff.spec.run import Scalar
from tuneoff.study import halving, search
from tuneoff.study.search import Trial

# Where a file lies does not change what is in it: in a run's id the contents stand for these.
LOCATIONS = ("source", "config", "train_file", "validation_file", "test_file")


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
    """What the names in a study stand for, as hashes, and how many training examples all the data has."""

    data: str
    models: Mapping[str, str]  # name -> hash
    # Runs that an earlier version of the numerics did and that count as done: id -> version. None: no such run counts.
    earlier: Mapping[str, int] | None = None
    examples: int | None = None  # None: unknown

    def run_id(self, spec: RunSpec) -> str:
        """The id of a run on these contents; that of an earlier version's where such a run counts."""
        hashes, earlier = (self.models[spec.model.name], self.data), self.earlier or {}
        before = (run_id_of(spec, *hashes, numerics=version) for version in sorted(set(earlier.values())))
        return next((run_id for run_id in before if run_id in earlier), run_id_of(spec, *hashes))


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


@dataclass(frozen=True)
class Halving:
    """What the limits of halved trials follow from: the optimiser steps of a run that goes to its end, and a trial's
    losses by step at the rungs it reached (`Trial.rungs`)."""

    steps_of: Callable[[RunSpec], int]
    rungs_of: Callable[[PlannedRun], Mapping[int, float]]


def expand(
    study: StudySpec, contents: Contents, loss_of: LossOf = _no_losses, halved: Halving | None = None
) -> Expansion:
    """The runs of a study: models x methods x shares of the data x seeds, seeds paired across methods.

    With trials, the final runs of a method are known when all its trials have a loss (`loss_of`, None for one that was
    not run yet). A method whose seed changes nothing runs once; where its setting is the one it has on all the data, a
    smaller share needs no run of its own. `reserved_tokens` is the largest overhead of all methods: every method then
    sees the same part of each document.

    A study with halving needs `halved` for its trials: each is known when the one before it has a loss, for its limits
    follow from the earlier ones.
    """
    return _Expander(study, contents, loss_of, halved).expand()


@dataclass(frozen=True)
class Repeated:
    """`number` runs of one method that differ in nothing that costs time."""

    method: str
    fraction: float
    role: Literal["final", "trial"]
    number: int


def outline(study: StudySpec) -> Iterator[Repeated]:
    """The runs of a study on one model, at most, before anything is known of its trials."""
    for name in study.methods:
        tries = bool(study.trials) and search.searched(name, study.hyperparameters.get(name, {})) is not None
        alike = not kind_of(name).seeded and (not tries or study.search_at == "full")
        for fraction in study.fractions:
            if tries and (fraction == 1 or study.search_at == "each"):
                yield Repeated(name, fraction, "trial", study.trials + 1)
            if fraction == 1 or not alike:
                yield Repeated(name, fraction, "final", study.seeds if kind_of(name).seeded else 1)


def count(study: StudySpec) -> int:
    """How many runs a study has at most, trials included."""
    return len(study.models) * sum(runs.number for runs in outline(study))


def effort(study: StudySpec, method: str, fraction: float, examples: int | None) -> TrainSpec:
    """The training settings of a method's runs on a share of the data; it takes no more steps than all `examples`."""
    train = study.train
    if method in study.steps:
        return train.model_copy(update={"max_steps": study.steps[method], "min_steps": study.steps[method]})
    if fraction < 1 and train.min_steps is None:
        floor = study.step_floor
        if examples is not None:
            floor = min(floor, total_steps(examples, train.batch_size, train.epochs, train.max_steps))
        return train.model_copy(update={"min_steps": floor})
    return train


class _Expander:
    def __init__(self, study: StudySpec, contents: Contents, loss_of: LossOf, halved: Halving | None) -> None:
        self._study, self._contents, self._loss_of, self._halved = study, contents, loss_of, halved
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
        # A study that is interrupted can be judged: what the verdict needs comes before the smaller shares.
        finals.sort(key=lambda run: -run.spec.fraction)
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
        halved = self._halved_search(name)
        tried: list[tuple[PlannedRun, Trial]] = []

        def attempt(value: Scalar) -> None:
            label = "" if fraction == 1 else f"-f{fraction:g}"
            values = {**fixed, parameter: value}
            run = self._run(model, name, values, fraction, search.TRIAL_SEED, f"{label}-trial{len(tried) + 1}", "trial")
            if halved:
                run = self._with_limits(run, halved.steps_of(run.spec), [trial.rungs for _, trial in tried])
            self._runs.append(run)
            loss = self._loss_of(run)
            reached = halved.rungs_of(run) if halved else {}
            tried.append((run, Trial(value, math.nan if loss is None else loss, reached)))

        def waiting() -> bool:
            return any(math.isnan(trial.loss) for _, trial in tried)

        because = None
        values = search.grid(name, parameter, self._study.trials)
        for value in halving.from_the_middle(values) if halved and parameter in kind_of(name).search else values:
            if not (halved and waiting()):
                attempt(value)
        if not waiting():
            value, because = search.reserve(name, parameter, [trial for _, trial in tried])
            attempt(value)
        done = because is not None and not waiting()
        winner = search.choose([trial for _, trial in tried]) if done else None
        self._cells.append(
            Cell(model.name, name, fraction, parameter, tuple(tried), because, winner.value if winner else None)
        )
        return {**fixed, parameter: winner.value} if winner else None

    def _halved_search(self, name: str) -> Halving | None:
        """None where trials are not halved: a method that trains nothing has no steps to save."""
        if not self._study.halving or not kind_of(name).trains:
            return None
        if self._halved is None:
            raise ValueError("the trials of a halved study follow from each other: give `halved`")
        return self._halved

    def _with_limits(self, run: PlannedRun, steps: int, earlier: Sequence[Mapping[int, float]]) -> PlannedRun:
        limits: CutAbove = halving.cut_above(steps, run.spec.train.warmup, earlier)
        spec = run.spec.model_copy(update={"cut_above": limits})
        return PlannedRun(spec, self._contents.run_id(spec), run.name)

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
        spec = RunSpec(
            model=model,
            prompt=study.prompt,
            data=study.data,
            method=resolved,
            train=effort(study, name, fraction, self._contents.examples),
            generate=study.generate,
            score=study.score,
            seed=seed,
            reserved_tokens=self._reserved,
            fraction=fraction,
            role=role,
        )
        prefix = f"{self._slugs[model.name]}-" if len(study.models) > 1 else ""
        return PlannedRun(spec, self._contents.run_id(spec), f"{prefix}{name.replace(':', '-')}{label}")


def timing_runs(runs: Iterable[PlannedRun], contents: Contents) -> list[PlannedRun]:
    """For the first final run of each method on all the data: a short one that is carried out alone, for its cost."""
    found = []
    for run in runs:
        if not run.spec.is_main or run.spec.seed != 0:
            continue
        short = {"max_steps": TIMED_STEPS, "min_steps": TIMED_STEPS, "eval_steps": None, "patience": None}
        spec = run.spec.model_copy(update={"role": "timing", "train": run.spec.train.model_copy(update=short)})
        found.append(PlannedRun(spec, contents.run_id(spec), f"{run.name.removesuffix('-s0')}-timing"))
    return found


def run_id_of(spec: RunSpec, model_hash: str, data_hash: str, *, numerics: int | None = None) -> str:
    """16 hex digits over the resolved settings, the model's and the data's content and the version of the numerics (by
    default this one's).

    A hyper-parameter that a method was given later counts where it differs from its default: runs that were done before
    stay what they are.
    """
    settings = spec.model_dump(mode="json")
    hyperparameters = settings["method"]["hyperparameters"]
    for key, value in methods.added_later(spec.method.name).items():
        if key in hyperparameters and hyperparameters[key] == value:
            del hyperparameters[key]
    for key in LOCATIONS:
        settings["data"].pop(key)
    settings["model"].pop("name")
    settings["model"].pop("revision")
    # Runs without them keep the names that they had before there were such settings.
    for key in ("cut_above", "score"):
        if getattr(spec, key) == RunSpec.model_fields[key].default:
            settings.pop(key)
    return json_hash(
        {"spec": settings, "model": model_hash, "data": data_hash, "numerics": numerics or NUMERICS_VERSION}
    )


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
