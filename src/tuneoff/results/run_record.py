"""What happened in one run: the models of `record.json` and `predictions.jsonl`, which `RunDir` reads and writes."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from tuneoff.results.packed_points import Packed
from tuneoff.spec import RunSpec
from tuneoff.spec.run import Frozen

SCHEMA_VERSION = 1
# Part of every run's id: raise it when a change of the engine moves any loss, weight or generated token.
NUMERICS_VERSION = 10

# Every number of a record has a largest value, far above what any run has: a stranger's may otherwise overflow wherever
# something is computed from it. fp32 ends at 3.4e38.
MOST_COUNT, MOST_MEASURED = 10**18, 1e40
Count = Annotated[int, Field(ge=0, le=MOST_COUNT)]
NotNegative = Annotated[float, Field(ge=0, le=MOST_COUNT), AllowInfNan(False)]
Number = Annotated[float, Field(ge=-MOST_COUNT, le=MOST_COUNT), AllowInfNan(False)]
"""Of ordinary size: seconds, epochs, shares, cores."""
Measured = Annotated[float, Field(ge=-MOST_MEASURED, le=MOST_MEASURED), AllowInfNan(False)]
"""Losses, scores, norms and rates."""
MOST_FILES = 2_000  # of an artefact: each is looked at
Status = Literal["running", "finished", "failed", "diverged", "interrupted"]
Phase = Literal["load", "train", "evaluate", "generate"]
ArtefactFormat = Literal["peft", "transformers", "tensors", "embeddings", "prompt", "none"]


class Reading(Frozen):
    """A measured number with its unit and source; without a number, the reason why there is none."""

    value: NotNegative | None
    unit: str
    source: str | None = None
    reason: str | None = None


class PhaseResources(Frozen):
    """Cost of one phase."""

    wall_seconds: NotNegative
    cpu_seconds: NotNegative
    tokens: Count | None = None
    """Tokens processed, without padding."""
    peak_memory_bytes: Count
    """Largest resident set of this process during the phase."""
    accelerator_peak_bytes: Reading
    energy: Reading
    """Of the whole machine, unless the source says otherwise."""


class TimelinePoint(Frozen):
    """One sample of what a run uses."""

    seconds: Number
    """Since the start of the run."""
    phase: str
    memory_bytes: Count
    cpu: Number
    """Cores in use."""
    accelerator: Annotated[float | None, Field(ge=-MOST_COUNT, le=MOST_COUNT), AllowInfNan(False)] = None
    """Utilisation in 0..1."""


class Resources(Frozen):
    """Cost of one run."""

    phases: dict[str, PhaseResources]
    peak_memory_bytes: Count
    memory_source: str | None = None
    """Where the memory peaks come from."""
    threads: Count
    processes: Count = 1
    """Concurrent runs on the machine, including this one."""
    timeline: Annotated[Sequence[TimelinePoint], Packed()] = ()

    @property
    def limiting_peak_bytes(self) -> float:
        """Peak of the memory that is exhausted first: the accelerator's if it was measured, else the process's."""
        readings = [phase.accelerator_peak_bytes.value for phase in self.phases.values()]
        return max((value for value in readings if value is not None), default=float(self.peak_memory_bytes))

    @property
    def total_seconds(self) -> float:
        """Wall time of all phases."""
        return sum(phase.wall_seconds for phase in self.phases.values())


class TrainPoint(Frozen):
    """One optimiser step. `loss` is in nats per target token."""

    step: Count
    epoch: Number
    seconds: Number
    loss: Measured
    learning_rate: Measured
    grad_norm: Measured
    tokens: Count


class ValidationPoint(Frozen):
    """Validation loss in nats per target token, after `step` optimiser steps."""

    step: Count
    epoch: Number
    seconds: Number
    loss: Measured


class Curve(Frozen):
    """Losses of a run. A method that trains nothing has one validation point, at step 0, and no training points."""

    train: Annotated[Sequence[TrainPoint], Packed()] = ()
    """Of a long training every second, fourth ... step and the last one; see `step_thinning`."""
    validation: Annotated[Sequence[ValidationPoint], Packed()] = ()
    best_step: Count | None = None
    best_epoch: Number | None = None
    best_validation_loss: Measured | None = None
    stopped_early: bool = False
    cut_at: Count | None = None
    """Step at which a trial was pruned because its loss exceeded the limit in the spec's `cut_above`."""

    @property
    def steps(self) -> int:
        """Optimiser steps that were done."""
        return self.train[-1].step if self.train else 0


class Artefact(Frozen):
    """The saved result of a run."""

    format: ArtefactFormat
    """`tensors`: some of the base model's own parameters. `prompt`: examples for the prompt."""
    bytes: Count
    """Size of all files on disk."""
    files: Annotated[tuple[str, ...], Field(max_length=MOST_FILES)] = ()
    """Paths relative to the artefact folder, and inside it."""

    @field_validator("files")
    @classmethod
    def _inside(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        # Files of a record are opened, and with --no-texts deleted, so a stranger's record must not name others.
        for name in files:
            path = PurePosixPath(name)
            if not path.parts or path.is_absolute() or ".." in path.parts or any(sign in name for sign in "\\:\0"):
                raise ValueError(f"{name!r} is not a path inside the artefact folder")
        return files


class Failure(Frozen):
    """Why a run did not finish."""

    type: str
    message: str
    traceback: str | None = None


class Prediction(Frozen):
    """One generated text with its scores."""

    id: str
    text: str
    scores: dict[str, Measured | None] = {}
    tokens: Count | None = None
    stopped: bool | None = None
    """Whether the model ended the text itself (EOS). None if that is unknown."""

    @property
    def text_withheld(self) -> bool:
        """Whether there was a text that `--no-texts` kept out of the folder."""
        return not self.text and self.scores.get("empty") == 0

    def without_text(self) -> "Prediction":
        """The prediction as `--no-texts` stores it."""
        return self.model_copy(update={"text": ""})


class Document(Frozen):
    """One test example as the report shows it."""

    id: str
    group: str
    document: str
    references: tuple[str, ...]
    fields: dict[str, str] = {}


class _Sparse(BaseModel):
    """Fields that are None are not written: older records do not have all of them. Unknown keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class EmbeddingPosition(Frozen):
    """Where virtual tokens lie relative to the model's own token embeddings."""

    norm_ratio: Measured
    """Mean norm of the virtual tokens divided by that of the model's embeddings."""
    nearest_cosine: Measured
    """Mean cosine similarity to the nearest embedding of the model."""


class RunDetails(_Sparse):
    """What engine and method report about a run. Further keys come from methods of other packages."""

    __pydantic_extra__: dict[str, JsonValue]

    device: str | None = None
    dtype: str | None = None
    """Number format of weights and products, such as `bfloat16`."""
    kernels: str | None = None
    """`torch`, or `tuneoff` if the C kernels were used; if whole layers were too, what computed their products."""
    template: str | None = None
    """Prompt template in use: `chat` or `plain`."""
    train_cut_share: Number | None = None
    """Fraction of training documents that were truncated."""
    validation_cut_share: Number | None = None
    test_cut_share: Number | None = None
    train_examples: Count | None = None
    """Training examples that fit into the prompt."""
    validation_examples: Count | None = None
    test_examples: Count | None = None
    first_place: EmbeddingPosition | None = None
    """Of virtual tokens before training."""
    trained_place: EmbeddingPosition | None = None
    """Of virtual tokens after training."""
    moved_share: Number | None = None
    """Fraction of the trainable tensors that training changed."""
    instruction_share: Measured | None = None
    """Fraction of outputs that repeat the instruction."""
    target_modules: dict[str, Count] | None = None
    """Adapted modules by name, with their number."""
    merged: bool | None = None
    """False if the adapter cannot be merged into the weights for generation."""
    shots: tuple[str, ...] | None = None
    """Ids of the examples in a few-shot prompt."""
    initial_tokens: Count | None = None
    """Tokens of the text that the virtual tokens were initialised from."""
    virtual_tokens: Count | None = None
    blocks: Count | None = None
    """Transformer blocks of the model."""
    tuned_blocks: Count | None = None
    reused_seconds: NotNegative | None = None
    """Seconds that other runs took to compute the states of frozen blocks that this run read from the cache. They
    belong to the costs of its training, but its phases do not contain them."""


class Accelerator(Frozen):
    """One accelerator of a machine."""

    name: str
    memory_bytes: Count | None = None


class Machine(_Sparse):
    """The machine of a run. Contains no name of the host or of its user."""

    cpu: str | None = None
    physical_cores: Count | None = None
    logical_cores: Count | None = None
    usable_cores: Count | None = None
    """Processors that the process may run on."""
    memory_bytes: Count | None = None
    architecture: str | None = None
    os: str | None = None
    python: str | None = None
    accelerators: tuple[Accelerator, ...] | None = None


class DataProvenance(Frozen):
    """Which data a run used."""

    description: str
    content_hash: str


class ModelProvenance(Frozen):
    """Which weights a run started from."""

    name: str
    content_hash: str


class Provenance(_Sparse):
    """Where the numbers of a run come from."""

    versions: dict[str, str] | None = None
    """Versions of Python and of each package that can change a number."""
    machine: Machine | None = None
    commit: str | None = None
    """Commit of the tuneoff checkout; None for an installed package."""
    numerics_version: Count | None = None
    data: DataProvenance | None = None
    model: ModelProvenance | None = None


class Record(Frozen):
    """One run: spec, status, curve, scores, costs and environment."""

    schema_version: Count = SCHEMA_VERSION
    run_id: str
    name: str
    """For people, such as `lora-s0`."""
    status: Status
    spec: RunSpec
    started_at: str
    finished_at: str | None = None
    failure: Failure | None = None
    curve: Curve = Curve()
    scores: dict[str, Measured | None] = {}
    """Means over the test documents; `metrics.METRICS` gives the units."""
    signature: str | None = None
    """The ROUGE variant."""
    resources: Resources | None = None
    trainable_parameters: Count | None = None
    total_parameters: Count | None = None
    artefact: Artefact | None = None
    notes: tuple[str, ...] = ()
    """Warnings for people, for example about truncation."""
    details: RunDetails = RunDetails()
    provenance: Provenance = Provenance()

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do: a trial may diverge, any other run must finish."""
        return self.status == "finished" or (self.status == "diverged" and self.spec.role == "trial")
