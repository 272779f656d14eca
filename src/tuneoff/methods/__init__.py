"""The ways of adapting a model."""

from tuneoff.methods.base import AdaptedModel, Method
from tuneoff.methods.few_shot import FewShot
from tuneoff.methods.full import FullFineTuning
from tuneoff.methods.hyperparameters import bounded
from tuneoff.methods.ia3 import IA3
from tuneoff.methods.lora import DoRA, LoRA, RsLoRA
from tuneoff.methods.parameter_subsets import BitFit, LastLayers, LNTuning
from tuneoff.methods.prefix_tuning import PrefixTuning
from tuneoff.methods.registry import METHODS, added_later, build, defaults, method_class
from tuneoff.methods.soft_prompt import SoftPrompt, SoftPromptAfter
from tuneoff.methods.zero_shot import ZeroShot

__all__ = [
    "IA3",
    "METHODS",
    "AdaptedModel",
    "BitFit",
    "DoRA",
    "FewShot",
    "FullFineTuning",
    "LNTuning",
    "LastLayers",
    "LoRA",
    "Method",
    "PrefixTuning",
    "RsLoRA",
    "SoftPrompt",
    "SoftPromptAfter",
    "ZeroShot",
    "added_later",
    "bounded",
    "build",
    "defaults",
    "method_class",
]
