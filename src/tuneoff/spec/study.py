"""A study: which models and methods are compared, on what, with how much effort."""

from pydantic import Field, field_validator

from tuneoff.spec.run import (
    DataSpec,
    Frozen,
    GenerateSpec,
    ModelSpec,
    PromptSpec,
    Scalar,
    TrainSpec,
)


class StudySpec(Frozen):
    """Everything that a comparison needs. Names of methods and hyper-parameters are checked by `study.plan`,
    which knows the registry; this class only knows shapes."""

    name: str = Field("study", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    models: tuple[ModelSpec, ...] = Field((ModelSpec(name="starter"),), min_length=1)
    methods: tuple[str, ...] = Field(("zero_shot", "soft_prompt", "lora", "full"), min_length=1)
    seeds: int = Field(1, ge=1, description="seeds 0 .. seeds-1, paired across methods")
    hyperparameters: dict[str, dict[str, Scalar]] = Field({}, description="method -> hyper-parameter -> value")
    predictions: dict[str, str] = Field({}, description="row name -> JSONL file of an outside system's outputs")
    data: DataSpec
    prompt: PromptSpec = PromptSpec()
    train: TrainSpec = TrainSpec()
    generate: GenerateSpec = GenerateSpec()

    @field_validator("methods")
    @classmethod
    def _unique(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("a method is named twice")
        return names
