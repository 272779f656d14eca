"""What to run: frozen, validated and serializable specs. Imports neither torch nor another package of tuneoff."""

from tuneoff.spec.run import (
    TIMED_STEPS,
    TIMED_TEXTS,
    CutAbove,
    DataSpec,
    GenerateSpec,
    MethodSpec,
    ModelSpec,
    PromptSpec,
    RougeWords,
    RunSpec,
    ScoreSpec,
    TrainSpec,
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
    "RougeWords",
    "RunSpec",
    "ScoreSpec",
    "StudySpec",
    "TrainSpec",
    "json_hash",
]
