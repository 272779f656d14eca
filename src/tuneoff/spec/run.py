"""The spec of one run: model, data, method with hyper-parameters, training effort and seed."""

import hashlib
import json
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AllowInfNan, BaseModel, ConfigDict, Field, StrictInt, model_validator
from pydantic_core import PydanticCustomError

Finite = Annotated[float, AllowInfNan(False)]
Positive = Annotated[float, Field(gt=0), AllowInfNan(False)]
SplitFraction = Annotated[float, Field(gt=0, lt=1), AllowInfNan(False)]
SplitSize = SplitFraction | Annotated[StrictInt, Field(ge=1)]  # a fraction of the documents, or their number
Fraction = Annotated[float, Field(gt=0, le=1), AllowInfNan(False)]
TIMED_STEPS, TIMED_TEXTS = 30, 32  # optimiser steps and validation texts of a timing run
Paths = str | tuple[str, ...] | None  # one file, or several that are read one after another
Scalar = bool | int | float | str | tuple[str, ...] | None
RougeWords = Literal["english", "unicode", "characters"]  # the units that ROUGE counts
# (optimiser step, highest validation loss at which the trial continues; None: evaluate only).
CutAbove = tuple[tuple[Annotated[int, Field(ge=1)], Finite | None], ...]


def at_most(asked: int, stored: int) -> AfterValidator:
    """The largest number of a field. `asked` is what a study may ask for (`study.study_file` refuses more).

    A stored number may be as large as `stored`: earlier versions knew no bound, and their results stay readable. The
    folder of a stranger must exhaust neither time nor memory all the same.
    """

    def check(value: int) -> int:
        if value > stored:
            raise PydanticCustomError("less_than_equal", f"Input should be less than or equal to {asked}")
        return value

    return AfterValidator(check)


MOST_BEAMS, MOST_TEXTS_AT_ONCE = 64, 4096


def is_path(source: str) -> bool:
    """Whether a source is a folder, not a hub name or `starter`."""
    return PurePath(source).is_absolute() or source.startswith((".", "~"))


def paths_of(value: Paths) -> tuple[str, ...]:
    """The files of a split, one or several."""
    return (value,) if isinstance(value, str) else value or ()


class Frozen(BaseModel):
    """Base class of specs: immutable, and an undeclared key is an error."""

    # Each is built when it is first used: a command uses few of them.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ModelSpec(Frozen):
    """The base model and its arithmetic."""

    name: str = Field("starter", min_length=1, description="hub id, local folder, GGUF file, or `starter`")
    revision: str | None = None
    trust_remote_code: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class PromptSpec(Frozen):
    """How a document becomes a prompt. Lengths are in tokens of the base model."""

    template: Literal["auto", "chat", "plain"] = "auto"
    instruction: str = "Summarize the following text in one sentence."
    cue: str = "Summary:"
    max_length: int = Field(512, ge=8, description="longest allowed prompt + virtual tokens + target, in tokens")


class DataSpec(Frozen):
    """The data: either `source`, or `train_file` and optionally the other files."""

    source: str | None = Field(None, description="`starter`, a folder saved by datasets, or a hub name")
    config: str | None = Field(None, description="configuration of a hub data set")
    train_file: Paths = None
    validation_file: Paths = None
    test_file: Paths = None
    document_column: str | None = None
    summary_column: str | None = Field(None, description="one column, or several separated by commas: references")
    summary_lists: Literal["references", "sentences"] | None = Field(
        None,
        exclude_if=lambda value: value is None,  # the study.json of such studies stays as it was
        description="what a list of texts as summary is: alternatives, or the sentences of one summary",
    )
    encoding: str | None = Field(
        None,
        exclude_if=lambda value: value is None,  # as for summary_lists
        description="encoding of text files; by default it is detected",
    )
    repeated_documents: Literal["references", "examples"] | None = Field(
        None,
        exclude_if=lambda value: value is None,  # as for summary_lists
        description="what rows of one document are in validation and test: references, or examples of their own",
    )
    max_train_documents: int | None = Field(None, ge=1)
    max_validation_documents: int | None = Field(None, ge=1)
    max_test_documents: int | None = Field(None, ge=1)
    validation_share: SplitSize = Field(0.1, description="what is held out: a fraction, or a number of documents")
    test_share: SplitSize = 0.1
    split_seed: int = Field(0, ge=0)
    folds: int | None = Field(
        None,
        ge=2,
        le=20,
        exclude_if=lambda value: value is None,  # as for summary_lists
        description="cross-validation: the documents are divided into so many parts, and each is the test split once",
    )
    fold: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda value: value is None,
        description="of a run: the part that it is tested on, from 1; None: all parts, as the study sees them",
    )

    def without_paths(self) -> "DataSpec":
        """A copy that keeps only the names of files and folders, not their paths, which may be private.

        Data is identified by hashes of its content, never by paths.
        """
        names: dict[str, Paths] = {}
        if self.source is not None and is_path(self.source):
            names["source"] = PurePath(self.source).name
        for key in ("train_file", "validation_file", "test_file"):
            value: Paths = getattr(self, key)
            if isinstance(value, str):
                names[key] = PurePath(value).name
            elif value is not None:
                names[key] = tuple(PurePath(path).name for path in value)
        return self.model_copy(update=names)

    @property
    def files(self) -> tuple[str, ...]:
        """All data files that were given, of all splits."""
        given = (self.train_file, self.validation_file, self.test_file)
        return tuple(path for value in given for path in paths_of(value))

    @model_validator(mode="after")
    def _one_source(self) -> "DataSpec":
        if self.source is None and self.train_file is None:
            raise ValueError("no data: give --train-file FILE, --data NAME or --preset starter")
        if self.source is not None and (self.train_file or self.validation_file or self.test_file):
            raise ValueError("both a data source and files were given: keep one of them")
        if self.folds is None:
            if self.fold is not None:
                raise ValueError("`fold` is set by the plan of a study with `folds`; leave it out")
            return self
        for name in ("test_file", "validation_file", "max_test_documents", "repeated_documents"):
            if getattr(self, name):
                flag = f"--{name.replace('_', '-')}"
                raise ValueError(f"--folds tests every document once, which {flag} does not fit; leave one of them out")
        if self.fold is not None and self.fold > self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}: there is no such part")
        return self


class TrainSpec(Frozen):
    """The training effort, equal for all methods. Learning rates are hyper-parameters of the methods."""

    epochs: Positive = 1.0
    max_steps: int | None = Field(None, ge=1)
    min_steps: int | None = Field(None, ge=1, description="lowest number of optimiser steps, however few the examples")
    batch_size: int = Field(8, ge=1, description="examples per optimiser step")
    micro_batch_tokens: int = Field(1024, ge=1, description="tokens per micro-batch, padding included")
    warmup: Annotated[float, Field(ge=0, lt=1), AllowInfNan(False)] = 0.06
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    max_grad_norm: Positive = 1.0
    evaluations_per_epoch: int = Field(1, ge=1)
    eval_steps: int | None = Field(None, ge=1, description="steps between evaluations, in addition to those per epoch")
    patience: int | None = Field(None, ge=1, description="stop after this many evaluations without a better loss")
    processes: int = Field(
        1,
        ge=1,
        le=64,
        exclude_if=lambda value: value == 1,  # such runs keep their ids
        description="processes that train one model together; the batch is that of one process",
    )


class GenerateSpec(Frozen):
    """How texts are generated."""

    max_new_tokens: int = Field(64, ge=1)
    num_beams: Annotated[int, Field(ge=1), at_most(MOST_BEAMS, 256)] = 1
    batch_size: Annotated[int, Field(ge=1), at_most(MOST_TEXTS_AT_ONCE, 65_536)] = 32


class ScoreSpec(Frozen):
    """How texts are scored."""

    words: RougeWords = Field(
        "english",
        description="what ROUGE counts: stemmed English words (a-z, 0-9), words of any script, or characters",
    )


class MethodSpec(Frozen):
    """The name of a method in the registry, and its hyper-parameters (all of them once resolved)."""

    name: str
    hyperparameters: dict[str, Scalar] = {}


class RunSpec(Frozen):
    """One run, complete.

    `reserved_tokens` is the largest number of virtual tokens of any method in the study. Documents are truncated as if
    every method needed that many, so that all methods see the same text.
    """

    model: ModelSpec
    prompt: PromptSpec
    data: DataSpec
    method: MethodSpec
    train: TrainSpec = TrainSpec()
    generate: GenerateSpec = GenerateSpec()
    score: ScoreSpec = ScoreSpec()
    seed: int = Field(0, ge=0)
    reserved_tokens: int = Field(0, ge=0)
    fraction: Fraction = Field(1.0, description="fraction of the training and validation documents, drawn by the seed")
    role: Literal["final", "trial", "timing"] = Field(
        "final",
        description="a trial uses no test example and saves no artefact; a timing run only measures cost",
    )
    scored_documents: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda value: value is None,  # run ids stay as they were
        description="of a final run: how many of the test documents it scores; None: all",
    )
    cut_above: CutAbove = Field(
        (), description="of a trial: the steps at which it may be pruned, each with the highest loss allowed there"
    )

    writes_validation: bool = Field(
        False,
        exclude_if=lambda value: not value,  # run ids stay as they were
        description="of a trial: it also writes texts for the validation documents",
    )

    @model_validator(mode="after")
    def _only_trials_are_pruned(self) -> "RunSpec":
        if self.cut_above and self.role != "trial":
            raise ValueError(f"cut_above is only for trials, not for a {self.role} run")
        if self.writes_validation and self.role != "trial":
            raise ValueError(f"writes_validation is only for trials, not for a {self.role} run")
        return self

    def without_paths(self) -> "RunSpec":
        """A copy without the paths of its data. The folder of the model stays, because using the run needs it."""
        return self.model_copy(update={"data": self.data.without_paths()})

    @property
    def is_main(self) -> bool:
        """Whether this is a final run on all the data. The comparison of methods uses only those."""
        return self.role == "final" and self.fraction == 1.0


def json_hash(value: Any) -> str:
    """16 hex digits of the SHA-256 of `value` as canonical JSON. A pydantic model is dumped first."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
