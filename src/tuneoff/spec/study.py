"""A study: which models and methods are compared, on what, with how much effort."""

from pathlib import PurePath
from typing import Annotated, Literal

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
)

MARGIN = 0.5  # points of ROUGE-1 below which a difference does not matter in practice


class ClaimSpec(Frozen):
    """A statement that is written down before the study and judged after it.

    `better`, `equal` and `at_least` compare the first method with the second; `cost_order` and `loss_order` name
    methods from the highest to the lowest; `best_early`: the lowest validation loss comes in the first half.
    """

    text: str = Field(min_length=1, max_length=300)
    kind: Literal["better", "equal", "at_least", "cost_order", "loss_order", "best_early"]
    methods: tuple[str, ...]
    fraction: Fraction = 1.0
    cost: str | None = None

    @model_validator(mode="after")
    def _as_many_as_it_needs(self) -> "ClaimSpec":
        wanted = {"best_early": (1, 1), "cost_order": (2, 20), "loss_order": (2, 20)}.get(self.kind, (2, 2))
        if not wanted[0] <= len(self.methods) <= wanted[1]:
            raise ValueError(f"the claim {self.text!r} of kind {self.kind} names {len(self.methods)} methods")
        return self


class StudySpec(Frozen):
    """Everything that a comparison needs. Names of methods and hyper-parameters are checked by `study.plan`,
    which knows the registry; this class only knows shapes."""

    name: str = Field("study", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    models: tuple[ModelSpec, ...] = Field((ModelSpec(name="starter"),), min_length=1)
    methods: tuple[str, ...] = Field(("zero_shot", "soft_prompt", "lora", "full"), min_length=1)
    seeds: int = Field(1, ge=1, description="seeds 0 .. seeds-1, paired across methods")
    fractions: tuple[Fraction, ...] = Field((1.0,), description="shares of the data, nested; 1 is always among them")
    step_floor: int = Field(
        50,
        ge=1,
        description="optimiser steps that a share below 1 takes at least, but never more than all the data",
    )
    trials: int = Field(0, ge=0, le=64, description="settings tried for each method before a reserve one; 0: defaults")
    search_at: Literal["each", "full"] = Field("each", description="trials at each share of the data, or at the whole")
    halving: bool = Field(False, description="trials of trained methods go one by one, and bad ones are cut early")
    steps: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="optimiser steps by method, where methods get equal time; the others take those of `train`"
    )
    hyperparameters: dict[str, dict[str, Scalar]] = Field({}, description="method -> hyper-parameter -> value")
    predictions: dict[str, str] = Field({}, description="row name -> JSONL file of an outside system's outputs")
    claims: tuple[ClaimSpec, ...] = ()
    margin: float = Field(
        MARGIN, ge=0, allow_inf_nan=False, description="points of ROUGE-1 that do not matter in practice"
    )
    data: DataSpec
    prompt: PromptSpec = PromptSpec()
    train: TrainSpec = TrainSpec()
    generate: GenerateSpec = GenerateSpec()
    score: ScoreSpec = ScoreSpec()

    def without_paths(self) -> "StudySpec":
        """The same with the names of data files alone; see `DataSpec.without_paths`."""
        predictions = {row: PurePath(file).name for row, file in self.predictions.items()}
        return self.model_copy(update={"data": self.data.without_paths(), "predictions": predictions})

    @field_validator("fractions")
    @classmethod
    def _ascending(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(fractions)) != len(fractions):
            raise ValueError("a fraction is named twice")
        if 1.0 not in fractions:
            raise ValueError("1 is missing: the methods are judged on the whole data, smaller shares come beside it")
        return tuple(sorted(fractions))

    @field_validator("halving")
    @classmethod
    def _something_to_halve(cls, halving: bool, info: ValidationInfo) -> bool:
        if halving and not info.data.get("trials"):
            raise ValueError("without trials there is nothing to cut; set trials too (--trials N)")
        return halving

    @field_validator("methods")
    @classmethod
    def _unique(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("a method is named twice")
        return names
