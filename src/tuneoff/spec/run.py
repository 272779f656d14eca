"""One run: a model, data, a method with its hyper-parameters, an effort and a seed."""

import hashlib
import json
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, model_validator

Finite = Annotated[float, AllowInfNan(False)]
Positive = Annotated[float, Field(gt=0), AllowInfNan(False)]
Share = Annotated[float, Field(gt=0, lt=1), AllowInfNan(False)]
Fraction = Annotated[float, Field(gt=0, le=1), AllowInfNan(False)]
TIMED_STEPS, TIMED_TEXTS = 30, 32  # optimiser steps and validation texts of a timing run
Scalar = bool | int | float | str | tuple[str, ...] | None
Words = Literal["english", "unicode", "characters"]  # what ROUGE counts
# (optimiser step, highest validation loss with which to go on there; None: only look).
CutAbove = tuple[tuple[Annotated[int, Field(ge=1)], Finite | None], ...]


def _is_place(source: str) -> bool:
    """A folder, and no name of the hub or of a file set that comes with tuneoff."""
    return PurePath(source).is_absolute() or source.startswith((".", "~"))


class Frozen(BaseModel):
    """Immutable, and a key that is not declared is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSpec(Frozen):
    """Which base model, and in which arithmetic."""

    name: str = Field("starter", min_length=1, description="hub id, local folder, GGUF file, or `starter`")
    revision: str | None = None
    trust_remote_code: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class PromptSpec(Frozen):
    """How a document becomes a prompt. Lengths are in tokens of the base model."""

    template: Literal["auto", "chat", "plain"] = "auto"
    instruction: str = "Summarize the following text in one sentence."
    cue: str = "Summary:"
    max_length: int = Field(512, ge=8, description="bounds prompt + virtual tokens + target")


class DataSpec(Frozen):
    """Where examples come from. Either `source` or `train_file`."""

    source: str | None = Field(None, description="`starter`, a folder written by datasets, or a hub name")
    config: str | None = Field(None, description="configuration of a hub data set")
    train_file: str | None = None
    validation_file: str | None = None
    test_file: str | None = None
    document_column: str | None = None
    summary_column: str | None = None
    max_train_documents: int | None = Field(None, ge=1)
    max_validation_documents: int | None = Field(None, ge=1)
    max_test_documents: int | None = Field(None, ge=1)
    validation_share: Share = 0.1
    test_share: Share = 0.1
    split_seed: int = Field(0, ge=0)

    def without_paths(self) -> "DataSpec":
        """The same with the names of files and folders alone: where they lay on one machine is nobody else's business.

        Contents are identified by hashes, never by places.
        """
        places = {
            key: PurePath(value).name
            for key in ("source", "train_file", "validation_file", "test_file")
            if (value := getattr(self, key)) is not None and (key != "source" or _is_place(value))
        }
        return self.model_copy(update=places)

    @model_validator(mode="after")
    def _one_source(self) -> "DataSpec":
        if self.source is None and self.train_file is None:
            raise ValueError("no data: give --train-file FILE, --data NAME or --preset starter")
        if self.source is not None and (self.train_file or self.validation_file or self.test_file):
            raise ValueError("both a data source and files were given: keep one of them")
        return self


class TrainSpec(Frozen):
    """The effort, the same for every method. Method-specific rates live with the method."""

    epochs: Positive = 1.0
    max_steps: int | None = Field(None, ge=1)
    min_steps: int | None = Field(None, ge=1, description="at least so many optimiser steps, however few the examples")
    batch_size: int = Field(8, ge=1, description="examples per optimiser step")
    micro_batch_tokens: int = Field(1024, ge=1, description="tokens that are worked on at a time, padding included")
    warmup: Annotated[float, Field(ge=0, lt=1), AllowInfNan(False)] = 0.06
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    max_grad_norm: Positive = 1.0
    evaluations_per_epoch: int = Field(1, ge=1)
    eval_steps: int | None = Field(None, ge=1, description="validation loss every so many steps, beside epoch ends")
    patience: int | None = Field(None, ge=1, description="stop after so many evaluations without a better loss")


class GenerateSpec(Frozen):
    """How new text is written."""

    max_new_tokens: int = Field(64, ge=1)
    num_beams: int = Field(1, ge=1)
    batch_size: int = Field(32, ge=1)


class ScoreSpec(Frozen):
    """How texts are scored."""

    words: Words = Field(
        "english",
        description="what ROUGE counts: runs of a-z and 0-9, stemmed; words of any script; or characters",
    )


class MethodSpec(Frozen):
    """A name of the `METHODS` registry and its hyper-parameters (all of them when resolved)."""

    name: str
    hyperparameters: dict[str, Scalar] = {}


class RunSpec(Frozen):
    """One run, complete. `reserved_tokens` is the largest overhead (virtual tokens) over all methods of the study:
    every document is cut to that budget, so that all methods see the same text."""

    model: ModelSpec
    prompt: PromptSpec
    data: DataSpec
    method: MethodSpec
    train: TrainSpec = TrainSpec()
    generate: GenerateSpec = GenerateSpec()
    score: ScoreSpec = ScoreSpec()
    seed: int = Field(0, ge=0)
    reserved_tokens: int = Field(0, ge=0)
    fraction: Fraction = Field(1.0, description="share of the training and validation groups, drawn by the seed")
    role: Literal["final", "trial", "timing"] = Field(
        "final",
        description="a trial reads no test example and leaves no artefact; a timing run is there for its cost alone",
    )
    cut_above: CutAbove = Field((), description="of a trial: where it is looked at early, and above what it is stopped")

    @model_validator(mode="after")
    def _trials_alone_are_cut(self) -> "RunSpec":
        if self.cut_above and self.role != "trial":
            raise ValueError(f"cut_above is for trials, not for a {self.role} run")
        return self

    def without_paths(self) -> "RunSpec":
        """The same without the places of its data. A model's folder stays: using the run needs it."""
        return self.model_copy(update={"data": self.data.without_paths()})

    @property
    def is_main(self) -> bool:
        """True for a final run on all the data: what the comparison of methods is about."""
        return self.role == "final" and self.fraction == 1.0


def json_hash(value: Any) -> str:
    """16 hex digits of the SHA-256 of `value` as canonical JSON (a pydantic model is dumped first)."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
