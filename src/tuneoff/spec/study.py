"""The spec of a study: the models and methods to compare, the data and the effort."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tuneoff.spec.run import (
    DataSpec,
    Fraction,
    Frozen,
    GenerateSpec,
    ModelSpec,
    PromptSpec,
    Scalar,
    ScoreSpec,
    TrainSpec,
    at_most,
)
from tuneoff.spec.task import Task

MARGIN = 0.5  # points; a smaller difference does not matter in practice
METRIC = "rouge1"
MOST_SEEDS = 1000
_SEEDS_UNTIL_SETTLED = 6


class ClaimSpec(Frozen):
    """A claim that is stated before the study and judged after it.

    `better`, `equal` and `at_least` compare the first method with the second. `cost_order` and `loss_order` list
    methods from the highest to the lowest. `best_early` claims that the lowest validation loss is in the first half of
    training.
    """

    text: str = Field(min_length=1, max_length=300)
    kind: Literal["better", "equal", "at_least", "cost_order", "loss_order", "best_early"]
    methods: tuple[str, ...]
    fraction: Fraction = 1.0
    cost: str | None = None

    @model_validator(mode="after")
    def _check_method_count(self) -> "ClaimSpec":
        wanted = {"best_early": (1, 1), "cost_order": (2, 20), "loss_order": (2, 20)}.get(self.kind, (2, 2))
        if not wanted[0] <= len(self.methods) <= wanted[1]:
            raise ValueError(
                f"the claim {self.text!r} names {len(self.methods)} methods, which its kind {self.kind} does not allow"
            )
        return self


class StudySpec(Frozen):
    """Everything that a comparison needs.

    This class checks types and ranges. The planner checks the names of methods and hyper-parameters against the
    registry.
    """

    name: str = Field("study", pattern=r"^\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=64)  # `..` would be a folder
    models: tuple[ModelSpec, ...] = Field((ModelSpec(name="starter"),), min_length=1)
    methods: tuple[str, ...] = Field(("zero_shot", "soft_prompt", "lora", "full"), min_length=1)
    until_settled: bool = Field(
        False,
        exclude_if=lambda value: not value,  # study.json of such studies stays as it was
        description="judge the study at looks that are fixed beforehand, and train no further seeds of what is settled",
    )
    seeds: Annotated[int, at_most(MOST_SEEDS, 10_000)] = Field(
        1,
        ge=1,
        description="number of seeds; every method is trained with seeds 0 .. N-1. With `until_settled` the largest "
        f"number, {_SEEDS_UNTIL_SETTLED} by default",
    )
    looks: tuple[int, ...] = Field(
        (),
        exclude_if=lambda value: not value,
        validate_default=True,
        description="numbers of seeds after which a study with `until_settled` is judged; by default at most four, "
        "from 3 to `seeds`",
    )
    fractions: tuple[Fraction, ...] = Field((1.0,), description="fractions of the data, nested; 1 must be among them")
    step_floor: int = Field(
        50,
        ge=1,
        description="lowest number of optimiser steps for a fraction below 1, at most as many as for all the data",
    )
    trials: int = Field(
        0, ge=0, le=64, description="settings tried for each method, before one refinement trial; 0: defaults only"
    )
    search_at: Literal["each", "full"] = Field(
        "each", description="run trials at each fraction of the data, or only on all of it"
    )
    halving: bool = Field(
        False, description="run the trials of a trained method one after another, and prune bad ones early"
    )
    choose_by: Literal["loss", "text"] = Field(
        "loss",
        exclude_if=lambda value: value == "loss",  # study.json of such studies stays as it was
        description="what chooses among settings: the validation loss, or, between the two with the lowest loss, the "
        "score of validation texts of a second training",
    )
    steps: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="optimiser steps by method, for equal time; other methods use those of `train`"
    )
    scored_documents: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (),
        exclude_if=lambda value: not value,  # study.json of such studies stays as it was
        description="test documents that final runs score, set by a time limit: the last number is for runs to come, "
        "earlier ones are of runs that are done",
    )
    hyperparameters: dict[str, dict[str, Scalar]] = Field({}, description="method -> hyper-parameter -> value")
    predictions: dict[str, str] = Field({}, description="row name -> JSONL file with the outputs of another system")
    claims: tuple[ClaimSpec, ...] = ()
    margin: float = Field(
        MARGIN,
        ge=0,
        allow_inf_nan=False,
        description="differences up to this many points of the metric do not matter in practice",
    )
    metric: str = Field(
        METRIC,
        min_length=1,
        exclude_if=lambda metric: metric == METRIC,  # study.json of such studies stays as it was
        description="the score by which methods are judged",
    )
    data: DataSpec
    prompt: PromptSpec = PromptSpec()
    task: Task = Field(
        "summary",
        exclude_if=lambda task: task == "summary",  # study.json of such studies stays as it was
        description="what is written; it decides on words that the study does not set",
    )
    train: TrainSpec = TrainSpec()
    generate: GenerateSpec = GenerateSpec()
    score: ScoreSpec = ScoreSpec()

    def without_paths(self) -> "StudySpec":
        """A copy that keeps only the names of data files; see `DataSpec.without_paths`."""
        predictions = {row: PurePath(file).name for row, file in self.predictions.items()}
        return self.model_copy(update={"data": self.data.without_paths(), "predictions": predictions})

    @property
    def possible_seeds(self) -> tuple[int, ...]:
        """The numbers of seeds that this study may end with, ascending."""
        return tuple(number for number in self.looks or range(1, self.seeds + 1) if number <= self.seeds)

    @model_validator(mode="before")
    @classmethod
    def _most_seeds(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("until_settled") is True and "seeds" not in given:
            return {**given, "seeds": _SEEDS_UNTIL_SETTLED}
        return given

    @field_validator("looks")
    @classmethod
    def _looks_fixed_beforehand(cls, looks: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        from tuneoff.stats.sequential import FIRST_LOOK, MOST_LOOKS, look_seeds  # here, because NumPy is slow

        seeds = info.data.get("seeds")
        if not info.data.get("until_settled"):
            if looks:
                raise ValueError("without until_settled a study is judged once; set until_settled too")
            return looks
        if seeds is None:  # a wrong value, which has its own message
            return looks
        if not looks and seeds <= FIRST_LOOK:
            raise ValueError(
                f"A study that stops when it is settled is judged after {FIRST_LOOK} seeds first, so it needs more "
                f"than {FIRST_LOOK}, not {seeds}: --seeds {_SEEDS_UNTIL_SETTLED}, for example."
            )
        if not looks:
            return look_seeds(seeds)
        if list(looks) != sorted(set(looks)) or looks[0] < FIRST_LOOK or not 2 <= len(looks) <= MOST_LOOKS:
            raise ValueError(
                f"two to {MOST_LOOKS} ascending numbers of seeds are needed, {FIRST_LOOK} or more, such as [3, 4, 6]"
            )
        return looks

    @field_validator("fractions")
    @classmethod
    def _ascending(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(fractions)) != len(fractions):
            raise ValueError("a fraction is named twice")
        if 1.0 not in fractions:
            raise ValueError("1 is missing: methods are compared on all the data; add 1 to the fractions")
        return tuple(sorted(fractions))

    @field_validator("halving")
    @classmethod
    def _halving_needs_trials(cls, halving: bool, info: ValidationInfo) -> bool:
        if halving and not info.data.get("trials"):
            raise ValueError("without trials there is nothing to prune; set trials too (--trials N)")
        return halving

    @field_validator("choose_by")
    @classmethod
    def _choosing_needs_trials(cls, choose_by: str, info: ValidationInfo) -> str:
        if choose_by == "text" and not info.data.get("trials"):
            raise ValueError("without trials there is nothing to choose; set trials too (--trials N)")
        return choose_by

    @field_validator("methods")
    @classmethod
    def _unique(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("a method is named twice")
        return names
