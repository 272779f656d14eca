"""What to run: frozen, validated, serialisable. Imports neither torch nor any other room of the house."""

from tuneoff.spec.run import (
    TIMED_STEPS,
    TIMED_TEXTS,
    CutAbove,
    DataSpec,
    GenerateSpec,
    MethodSpec,
    ModelSpec,
    PromptSpec,
    RunSpec,
    ScoreSpec,
    TrainSpec,
    Words,
    json_hash,
)
from tuneoff.spec.study import StudySpec

__all__ = [
    "TIMED_STEPS",
    "TIMED_TEXTS",
    "CutAbove",
    "DataSpec",
    "GenerateSpec",
    "MethodSpec",
    "ModelSpec",
    "PromptSpec",
    "RunSpec",
    "ScoreSpec",
    "StudySpec",
    "TrainSpec",
    "Words",
    "json_hash",
]
