"""tuneoff: which way of adapting a language model is worth it for my documents, on my machine?

    import tuneoff as to

    study = to.compare(train_file="train.jsonl", methods=["zero_shot", to.LoRA(r=16), "full"], trials=4, seeds=3)

Names are loaded when they are first used, so `import tuneoff` is fast and loads no torch.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tuneoff.api import Study, Winner, compare, judge, judge_together, load_study
    from tuneoff.errors import UserError
    from tuneoff.methods import (
        IA3,
        METHODS,
        BitFit,
        DoRA,
        FewShot,
        FullFineTuning,
        LastLayers,
        LNTuning,
        LoRA,
        PrefixTuning,
        RsLoRA,
        SoftPrompt,
        SoftPromptAfter,
        ZeroShot,
    )
    from tuneoff.results.summary import Summary, Verdict
    from tuneoff.scored_systems import ScoredSystems, read_scores
    from tuneoff.spec import StudySpec

_MODULES = {
    "tuneoff.api": ("Study", "Winner", "compare", "judge", "judge_together", "load_study"),
    "tuneoff.errors": ("UserError",),
    "tuneoff.methods": (
        "METHODS",
        "BitFit",
        "DoRA",
        "FewShot",
        "FullFineTuning",
        "IA3",
        "LNTuning",
        "LastLayers",
        "LoRA",
        "PrefixTuning",
        "RsLoRA",
        "SoftPrompt",
        "SoftPromptAfter",
        "ZeroShot",
    ),
    "tuneoff.results.summary": ("Summary", "Verdict"),
    "tuneoff.scored_systems": ("ScoredSystems", "read_scores"),
    "tuneoff.spec": ("StudySpec",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "IA3",
    "METHODS",
    "BitFit",
    "DoRA",
    "FewShot",
    "FullFineTuning",
    "LNTuning",
    "LastLayers",
    "LoRA",
    "PrefixTuning",
    "RsLoRA",
    "ScoredSystems",
    "SoftPrompt",
    "SoftPromptAfter",
    "Study",
    "StudySpec",
    "Summary",
    "UserError",
    "Verdict",
    "Winner",
    "ZeroShot",
    "compare",
    "judge",
    "judge_together",
    "load_study",
    "read_scores",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
