"""What a study folder stores about the study as a whole: the models of the JSON files that `StudyDir` reads and writes.

The keys are on disk in folders of users and keep their names.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tuneoff.data import ColumnsTaken, Split
from tuneoff.results.run_record import MOST_COUNT, Count, Measured, Number
from tuneoff.spec import StudySpec
from tuneoff.spec.run import Frozen, Scalar

Effort = Literal["examples", "time"]  # what the trained methods get an equal amount of


class _Tolerant(BaseModel):
    """Keys of a later version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class PlanFile(_Tolerant):
    """`plan.json`: hashes of the contents, and the runs that belong to the study."""

    data: str | None = None
    models: dict[str, str] = {}
    numerics: Count | None = None
    earlier_numerics: tuple[Count, ...] | None = None
    """Versions of the numerics whose finished runs count; None if no earlier run counts."""
    runs: tuple[str, ...] | None = None
    """Names of run folders."""
    number_format: Literal["fp32", "bf16"] | None = None
    """Of the models whose precision is `auto`; None in plans of earlier versions, whose runs decided for themselves."""
    open: Literal[True] | None = None
    """Whether further runs follow from a look, in a study that stops when it is settled."""


class WorkFile(Frozen):
    """`work.json`: what other machines need to carry out runs. Holds paths of the machine that began the study."""

    spec: StudySpec
    """With its paths as they were typed."""
    directory: str
    """The folder that relative paths start from."""
    keep_texts: bool = True
    number_format: Literal["fp32", "bf16"] | None = None


class DataFile(_Tolerant):
    """`data.json`: what the study was run on."""

    description: str = ""
    counts: dict[str, Annotated[int, Field(ge=0, le=10**12)]] = {}
    """Examples of each split."""
    cleaning: tuple[str, ...] = ()
    columns: dict[Split, ColumnsTaken] = {}
    """What the columns of each split were taken for; empty if that was not recorded."""
    content_hash: str | None = None
    caution: str | None = None
    """What ROUGE does not see of the test data."""
    cautions: tuple[str, ...] = ()
    """Everything that was known before the first run and makes the scores say less, `caution` included."""

    @property
    def all_cautions(self) -> tuple[str, ...]:
        """The cautions, also of a file that has only `caution`."""
        return self.cautions or (() if self.caution is None else (self.caution,))

    @property
    def train_examples(self) -> int:
        """Training examples of all the data; 0 if unknown."""
        return self.counts.get("train", 0)


class Speed(Frozen):
    """Seconds that one method needs on one model."""

    start: Number
    step: Number
    """One optimiser step on examples of mean length."""
    check: Number
    """One validation example."""
    write: Number
    """One test example."""
    warm_up: Number = 0.0
    """How much longer the first step of a run takes."""


class MeasuredSpeed(Speed):
    """A speed, with the model and the method that it belongs to."""

    model: str
    method: str

    @classmethod
    def of(cls, model: str, method: str, speed: Speed) -> "MeasuredSpeed":
        """The speed of a method on a model."""
        return cls(model=model, method=method, **speed.model_dump())

    def speed(self) -> Speed:
        """The speed alone."""
        return Speed.model_validate(self.model_dump(exclude={"model", "method"}))


class ReducedSettings(_Tolerant):
    """The settings that a budget may change."""

    max_validation_documents: Count | None
    max_test_documents: Count | None
    trials: Count
    fractions: tuple[Number, ...]
    max_steps: Count | None
    min_steps: Count | None
    step_floor: Count
    seeds: Count
    steps: dict[str, Count]
    scored_documents: tuple[Count, ...] = ()

    @classmethod
    def of(cls, study: StudySpec) -> "ReducedSettings":
        """Those of a study."""
        return cls(
            max_validation_documents=study.data.max_validation_documents,
            max_test_documents=study.data.max_test_documents,
            trials=study.trials,
            fractions=study.fractions,
            max_steps=study.train.max_steps,
            min_steps=study.train.min_steps,
            step_floor=study.step_floor,
            seeds=study.seeds,
            steps=study.steps,
            scored_documents=study.scored_documents,
        )


class BudgetFile(_Tolerant):
    """`budget.json`: the plan that fits a study into its time limit."""

    asked: str
    """Hash of the request that the plan answers."""
    budget_seconds: Number | None = None
    """None with `--equal time` alone, and in files of an earlier version."""
    equal: Effort = "examples"
    seconds: Number
    """Planned duration of all runs."""
    fits: bool
    given_up: tuple[str, ...]
    """What was reduced, in words."""
    measured: tuple[MeasuredSpeed, ...] = ()
    settings: ReducedSettings
    spent_seconds: Number = 0.0
    """Of the limit, the probe included, until the last run that ended."""
    corrections: tuple[str, ...] = ()
    """What was changed while the study ran, in words."""


class PruningCheck(_Tolerant):
    """An early look at a trial: pruned if its validation loss is above the limit."""

    step: Count
    cut_above: Measured | None = None
    validation_loss: Measured | None = None


class TrialResult(_Tolerant):
    """One trial of a search."""

    value: Scalar
    validation_loss: Measured | None = None
    status: str = ""
    seconds: Number | None = None
    steps: Count | None = None
    run: str = ""
    cut_at: Count | None = None
    """Step at which the trial was pruned."""
    rungs: tuple[PruningCheck, ...] = ()

    @property
    def loss_when_pruned(self) -> float | None:
        """Validation loss at the check that pruned the trial."""
        return next((check.validation_loss for check in self.rungs if check.step == self.cut_at), None)


class PruningSavings(_Tolerant):
    """What pruning saved, compared with trials that all run to their end."""

    steps: Annotated[int, Field(ge=-MOST_COUNT, le=MOST_COUNT)]
    seconds: Number | None = None


class SecondLookResult(_Tolerant):
    """A second training with one of the two best settings, and the texts that it wrote for validation documents."""

    value: Scalar
    validation_loss: Measured | None = None
    text_score: Measured | None = None
    """Mean over the validation documents, of the study's metric."""
    status: str = ""
    seconds: Number | None = None
    steps: Count | None = None
    run: str = ""


class SearchCell(_Tolerant):
    """The trials of one method on one model and one fraction of the data."""

    model: str
    method: str
    fraction: Number = 1.0
    fold: Count | None = Field(None, exclude_if=lambda value: value is None)
    """The part of a cross-validation that is not trained on."""
    hyperparameter: str
    trials: tuple[TrialResult, ...] = ()
    reserve_because: str | None = None
    """Why the refinement trial tried its value."""
    chosen: Scalar = None
    on_edge: bool | None = None
    saved: PruningSavings | None = None
    second_looks: tuple[SecondLookResult, ...] = ()
    decided_by: Literal["loss", "text"] | None = None
    """What decided between the two best settings; None if the lowest loss was taken without a second look."""
    within_noise: tuple[Scalar, ...] = ()
    """Other settings whose loss differs from that of the chosen one by no more than another seed changes."""

    @property
    def steps(self) -> int:
        """Optimiser steps of all trials together."""
        every = [*(trial.steps for trial in self.trials), *(look.steps for look in self.second_looks)]
        return sum(steps or 0 for steps in every)

    @property
    def seconds(self) -> float | None:
        """Time of all trials together; None if one has no time."""
        every = [*(trial.seconds for trial in self.trials), *(look.seconds for look in self.second_looks)]
        known = [seconds for seconds in every if seconds is not None]
        return sum(known) if known and len(known) == len(every) else None


class SearchFile(_Tolerant):
    """`search.json`: how the settings of the final runs were chosen."""

    criterion: str = "validation loss"
    cells: tuple[SearchCell, ...] = ()

    @property
    def pruned(self) -> bool:
        """Whether trials could be pruned."""
        return any(cell.saved for cell in self.cells)
