"""Prefix tuning: keys and values of n virtual tokens train, in every layer (Li and Liang 2021, arXiv:2101.00190).

They begin as those that the base has after reading a text, and train as they stand: the paper's reparameterisation by a
network is for a random start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tuneoff.errors import UserError
from tuneoff.prompts import AS_GIVEN, Prompting
from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from tuneoff.data import Example
    from tuneoff.engine.loss import KeyValuePrefix
    from tuneoff.models import BaseModel

_TENSOR = "prompt_embeddings"  # PEFT's name for it


@dataclass
class Prefixed:
    """A frozen model with keys and values in front. `states_VLHW`: 2 x layers (key, value, key ...), heads, width."""

    model: PreTrainedModel
    states_VLHW: Tensor
    details: dict[str, Any] = field(default_factory=dict)
    revision: str | None = None  # of the model, where it has one
    prompting: Prompting = AS_GIVEN

    def prefix(self) -> KeyValuePrefix:
        from tuneoff.engine.loss import KeyValuePrefix

        states_LHVW = self.states_VLHW.permute(1, 2, 0, 3)
        return KeyValuePrefix([(states_LHVW[place], states_LHVW[place + 1]) for place in range(0, len(states_LHVW), 2)])

    def suffix(self) -> Tensor | None:
        return None

    def state(self) -> dict[str, Tensor]:
        return {_TENSOR: self.states_VLHW}

    def train_mode(self, on: bool) -> None:  # noqa: ARG002
        # The base stays in evaluation mode: dropout of a model that does not learn is only noise on the gradient.
        self.model.eval()

    def save(self, folder: Path) -> Literal["peft"]:
        from peft import PrefixTuningConfig, TaskType
        from safetensors.torch import save_file

        virtual, twice_layers, heads, width = self.states_VLHW.shape
        written = PrefixTuningConfig(
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
        )
        written.save_pretrained(folder)
        flat = self.states_VLHW.detach().cpu().reshape(virtual, -1).contiguous()
        save_file({_TENSOR: flat}, folder / "adapter_model.safetensors")
        return "peft"

    def merge(self) -> None:
        return None


@dataclass(frozen=True)
class PrefixTuning:
    """Trained keys and values in front of the prompt, initialised from a text."""

    name: ClassVar[str] = "prefix_tuning"
    title: ClassVar[str] = "Prefix tuning"
    trains: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"learning_rate": (3e-4, 1e-1)}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    source: ClassVar[str] = "Li and Liang 2021, arXiv:2101.00190; the range of rates is ours and wide"

    num_virtual_tokens: int = 20
    initial_prompt: str = "Summarize the following text in one sentence."
    learning_rate: float = 5e-3
    weight_decay: float = 0.0

    @property
    def overhead_tokens(self) -> int:
        return self.num_virtual_tokens

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> Prefixed:  # noqa: ARG002
        import torch

        from tuneoff.engine.prefill import has_plain_kv_cache
        from tuneoff.engine.seeding import seed_everything

        seed_everything(seed)
        if not has_plain_kv_cache(base.model):
            raise UserError(
                f"prefix_tuning: {type(base.model).__name__} does not keep all keys and values of every layer "
                "(sliding windows, say); use soft_prompt"
            )
        ids = base.tokenizer(self.initial_prompt, add_special_tokens=False)["input_ids"]
        if not ids:
            raise UserError("prefix_tuning.initial_prompt has no token; give at least one word")
        repeated = (ids * (self.num_virtual_tokens // len(ids) + 1))[: self.num_virtual_tokens]
        base.model.eval()
        with torch.no_grad():
            read = base.model(torch.tensor([repeated], device=base.device), use_cache=True).past_key_values
        layers = [states[0].permute(1, 0, 2) for layer in read.layers for states in (layer.keys, layer.values)]
        if len({tuple(states_VHW.shape) for states_VHW in layers}) > 1:
            raise UserError(
                f"prefix_tuning: the layers of {type(base.model).__name__} differ in shape; use soft_prompt"
            )
        # fp32 whatever the model computes in: these few numbers are all that is learned.
        states_VLHW = torch.nn.Parameter(torch.stack(layers, dim=1).float().clone())
        details = {"initial_tokens": len(ids), "virtual_tokens": self.num_virtual_tokens}
        return Prefixed(base.model, states_VLHW, details, base.revision)

    def restore(self, base: BaseModel, folder: Path) -> Prefixed:
        import torch
        from peft import PrefixTuningConfig
        from safetensors.torch import load_file

        config = PrefixTuningConfig.from_pretrained(str(folder))
        flat = load_file(folder / "adapter_model.safetensors")[_TENSOR].to(base.device)
        states_VLHW = flat.reshape(len(flat), 2 * config.num_layers, config.num_attention_heads, -1)
        return Prefixed(base.model, torch.nn.Parameter(states_VLHW), {"virtual_tokens": len(flat)})
