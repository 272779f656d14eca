"""The settings of a study under one flat name each: the flags of the command line and the keywords of `compare`.

Imports nothing that is slow: `tuneoff --help` reads this table.
"""

import os
from collections.abc import Sequence
from typing import Literal, TypedDict

# Name -> where the value belongs in `StudySpec`. `*` behind `models` means every model.
OPTION_PATHS: dict[str, tuple[str, ...]] = {
    "data": ("data", "source"),
    "data_config": ("data", "config"),
    "train_file": ("data", "train_file"),
    "validation_file": ("data", "validation_file"),
    "test_file": ("data", "test_file"),
    "document_column": ("data", "document_column"),
    "summary_column": ("data", "summary_column"),
    "summary_lists": ("data", "summary_lists"),
    "repeated_documents": ("data", "repeated_documents"),
    "encoding": ("data", "encoding"),
    "max_train_documents": ("data", "max_train_documents"),
    "max_validation_documents": ("data", "max_validation_documents"),
    "max_test_documents": ("data", "max_test_documents"),
    "validation_share": ("data", "validation_share"),
    "test_share": ("data", "test_share"),
    "folds": ("data", "folds"),
    "model": ("models",),
    "revision": ("models", "*", "revision"),
    "precision": ("models", "*", "precision"),
    "trust_remote_code": ("models", "*", "trust_remote_code"),
    "instruction": ("prompt", "instruction"),
    "cue": ("prompt", "cue"),
    "template": ("prompt", "template"),
    "max_length": ("prompt", "max_length"),
    "seeds": ("seeds",),
    "until_settled": ("until_settled",),
    "trials": ("trials",),
    "fractions": ("fractions",),
    "search_at": ("search_at",),
    "halving": ("halving",),
    "choose_by": ("choose_by",),
    "margin": ("margin",),
    "metric": ("metric",),
    "epochs": ("train", "epochs"),
    "max_steps": ("train", "max_steps"),
    "min_steps": ("train", "min_steps"),
    "batch_size": ("train", "batch_size"),
    "micro_batch_tokens": ("train", "micro_batch_tokens"),
    "warmup": ("train", "warmup"),
    "schedule": ("train", "schedule"),
    "max_grad_norm": ("train", "max_grad_norm"),
    "eval_steps": ("train", "eval_steps"),
    "patience": ("train", "patience"),
    "processes": ("train", "processes"),
    "max_new_tokens": ("generate", "max_new_tokens"),
    "num_beams": ("generate", "num_beams"),
    "rouge_words": ("score", "words"),
    "generate_batch_size": ("generate", "batch_size"),
}

DATA_FILES = ("train_file", "validation_file", "test_file")  # one or several
STANDARD_INPUT = "-"  # in place of the name of a file

StrPath = str | os.PathLike[str]


class StudyOptions(TypedDict, total=False):
    """The keywords of `compare` that describe a study. Each has the meaning of the flag of the same name."""

    data: StrPath
    data_config: str
    train_file: StrPath | Sequence[StrPath]
    validation_file: StrPath | Sequence[StrPath]
    test_file: StrPath | Sequence[StrPath]
    document_column: str
    summary_column: str
    summary_lists: Literal["references", "sentences"]
    repeated_documents: Literal["references", "examples"]
    encoding: str
    max_train_documents: int
    max_validation_documents: int
    max_test_documents: int
    validation_share: float
    test_share: float
    folds: int
    model: StrPath | Sequence[StrPath]
    revision: str
    precision: Literal["auto", "fp32", "bf16"]
    trust_remote_code: bool
    instruction: str
    cue: str
    template: Literal["auto", "chat", "plain"]
    max_length: int
    seeds: int
    until_settled: bool
    trials: int
    fractions: float | Sequence[float]
    search_at: Literal["each", "full"]
    halving: bool
    choose_by: Literal["loss", "text"]
    margin: float
    metric: str
    epochs: float
    max_steps: int
    min_steps: int
    batch_size: int
    micro_batch_tokens: int
    warmup: float
    schedule: Literal["cosine", "linear", "constant"]
    max_grad_norm: float
    eval_steps: int
    patience: int
    processes: int
    max_new_tokens: int
    num_beams: int
    rouge_words: Literal["english", "unicode", "characters"]
    generate_batch_size: int
