"""Prefix tuning: keys and values of n virtual tokens train, in every layer (Li and Liang 2021, arXiv:2101.00190).

They are initialized with those that the base model computes for a text, and train directly. The paper's
reparameterization by a network is meant for a random initialization.

Shapes: V virtual tokens, L 2 x layers (key, value, key ...), H heads of keys, W width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.adapter_settings import VIRTUAL_TOKENS
from tuneoff.errors import UserError
from tuneoff.export.formats import ArtefactFormat
from tuneoff.methods.base import AdaptedModel, Method, save_tensors
from tuneoff.methods.hyperparameters import bounded
from tuneoff.methods.soft_prompt import ADAPTER_FILE, MOST_VIRTUAL_TOKENS, load_virtual_tokens, repeat_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from tuneoff.data import Example
    from tuneoff.engine.loss import KeyValuePrefix
    from tuneoff.models import BaseModel


@dataclass(eq=False)
class PrefixTunedModel(AdaptedModel):
    """A frozen model with trained keys and values before the prompt, `states_VLHW`."""

    states_VLHW: torch.nn.Parameter
    revision: str | None = None  # of the base model, for PEFT's configuration

    def prefix(self) -> KeyValuePrefix:
        from tuneoff.engine.loss import KeyValuePrefix

        states_LHVW = self.states_VLHW.permute(1, 2, 0, 3)
        return KeyValuePrefix([(states_LHVW[index], states_LHVW[index + 1]) for index in range(0, len(states_LHVW), 2)])

    def state(self) -> dict[str, Tensor]:
        return {VIRTUAL_TOKENS: self.states_VLHW}

    def save(self, folder: Path) -> ArtefactFormat:
        from peft import PrefixTuningConfig, TaskType

        virtual, twice_layers, heads, width = self.states_VLHW.shape
        PrefixTuningConfig(
            task_type=TaskType.CAUSAL_LM,
            num_virtual_tokens=virtual,
            token_dim=heads * width,
            num_layers=twice_layers // 2,
            num_attention_heads=heads,
            num_transformer_submodules=1,
            encoder_hidden_size=heads * width,
            base_model_name_or_path=self.model.config.name_or_path,
            revision=self.revision,
            inference_mode=True,
        ).save_pretrained(folder)
        save_tensors({VIRTUAL_TOKENS: self.states_VLHW.reshape(virtual, -1)}, folder / ADAPTER_FILE)
        return "peft"


@dataclass(frozen=True)
class PrefixTuning(Method):
    """Trained keys and values before the prompt, initialized from a text."""

    name = "prefix_tuning"
    title = "Prefix tuning"
    source = "Li and Liang 2021, arXiv:2101.00190; the range of rates is ours and wide"
    citation = """@inproceedings{li2021prefix,
  author = {Li, Xiang Lisa and Liang, Percy},
  title = {Prefix-Tuning: Optimizing Continuous Prompts for Generation},
  booktitle = {Proceedings of the 59th Annual Meeting of the Association for Computational Linguistics},
  year = {2021}
}"""
    task_text = "initial_prompt"
    search = {"learning_rate": (3e-4, 1e-1)}

    num_virtual_tokens: int = bounded(20, at_least=1, at_most=MOST_VIRTUAL_TOKENS)
    initial_prompt: str = "Summarize the following text in one sentence."
    learning_rate: float = bounded(5e-3, above=0, at_most=100)
    weight_decay: float = bounded(0.0, at_least=0, at_most=100)

    @property
    def overhead_tokens(self) -> int:
        return self.num_virtual_tokens

    @property
    def generates_by_beams(self) -> bool:
        return False

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        import torch

        ids, initial_tokens = repeat_text(base, self.name, self.initial_prompt, self.num_virtual_tokens)
        layers = _states_of(base, ids)
        # fp32 whatever the model computes in: these few numbers are all that is learned.
        states_VLHW = torch.nn.Parameter(torch.stack(layers, dim=1).float().clone())
        details = {"initial_tokens": initial_tokens, "virtual_tokens": self.num_virtual_tokens}
        return PrefixTunedModel(base.model, states_VLHW, base.revision, details=details)

    def check(self, model: PreTrainedModel) -> str | None:
        from tuneoff.engine.prefill import why_no_plain_kv_cache

        if (reason := why_no_plain_kv_cache(model)) is not None:
            raise UserError(f"prefix_tuning: {type(model).__name__} {reason}; use soft_prompt")
        return None

    def restore(self, base: BaseModel, folder: Path) -> AdaptedModel:
        import torch

        self.check(base.model)  # an earlier version may have trained what cannot be used
        # The shape is that of the model, whatever PEFT's file beside the tensor says.
        layers = _states_of(base, [0])
        _, heads, width = layers[0].shape
        flat = load_virtual_tokens(base, folder / ADAPTER_FILE, len(layers) * heads * width).detach()
        states_VLHW = flat.reshape(len(flat), len(layers), heads, width)
        details = {"virtual_tokens": len(flat)}
        return PrefixTunedModel(base.model, torch.nn.Parameter(states_VLHW), details=details, revision=base.revision)


def _states_of(base: BaseModel, ids: Sequence[int]) -> list[Tensor]:
    """Keys and values (V, H, W) of each layer, one after the other, for a text. Raises `UserError` if layers differ."""
    import torch

    base.model.eval()
    with torch.no_grad():
        cache = base.model(torch.tensor([ids], device=base.device), use_cache=True).past_key_values
    layers = [states[0].permute(1, 0, 2) for layer in cache.layers for states in (layer.keys, layer.values)]
    if len({tuple(states_VHW.shape) for states_VHW in layers}) > 1:
        raise UserError(f"prefix_tuning: the layers of {type(base.model).__name__} differ in shape; use soft_prompt")
    return layers
