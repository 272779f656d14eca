"""Soft prompt tuning: n virtual tokens in front of the prompt train, and nothing else.

Lester et al. 2021, arXiv:2104.08691.
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
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from tuneoff.data import Example
    from tuneoff.models import BaseModel

_TENSOR = "prompt_embeddings"  # PEFT's name for it


@dataclass
class Prompted:
    """A frozen model with virtual tokens."""

    model: PreTrainedModel
    prompt_VD: torch.nn.Parameter
    details: dict[str, Any] = field(default_factory=dict)
    prompting: Prompting = AS_GIVEN

    def prefix(self) -> Tensor | None:
        return self.prompt_VD

    def state(self) -> dict[str, Tensor]:
        return {_TENSOR: self.prompt_VD}

    def train_mode(self, on: bool) -> None:  # noqa: ARG002
        # The base stays in evaluation mode: dropout of a model that does not learn is only noise on the gradient.
        self.model.eval()

    def save(self, folder: Path) -> Literal["peft"]:
        from peft import PromptTuningConfig, TaskType
        from safetensors.torch import save_file

        config = self.model.config
        written = PromptTuningConfig(
            task_type=TaskType.CAUSAL_LM,
            num_virtual_tokens=self.prompt_VD.shape[0],
            token_dim=self.prompt_VD.shape[1],
            num_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_transformer_submodules=1,
            base_model_name_or_path=config.name_or_path,
            inference_mode=True,
        )
        written.save_pretrained(folder)
        save_file({_TENSOR: self.prompt_VD.detach().cpu().contiguous()}, folder / "adapter_model.safetensors")
        return "peft"

    def merge(self) -> None:
        return None


@dataclass(frozen=True)
class SoftPrompt:
    """Prompt tuning, initialised from the embeddings of a text."""

    name: ClassVar[str] = "soft_prompt"
    title: ClassVar[str] = "Soft prompt"
    trains: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"learning_rate": (1e-3, 3e-1)}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    source: ClassVar[str] = "Lester et al. 2021, arXiv:2104.08691"

    num_virtual_tokens: int = 20
    initial_prompt: str = "Summarize the following text in one sentence."
    learning_rate: float = 1e-2
    weight_decay: float = 0.0

    @property
    def overhead_tokens(self) -> int:
        return self.num_virtual_tokens

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> Prompted:  # noqa: ARG002
        import torch

        from tuneoff.engine.seeding import seed_everything

        seed_everything(seed)
        ids = base.tokenizer(self.initial_prompt, add_special_tokens=False)["input_ids"]
        if not ids:
            raise UserError("soft_prompt.initial_prompt has no token; give at least one word")
        repeated = (ids * (self.num_virtual_tokens // len(ids) + 1))[: self.num_virtual_tokens]
        with torch.no_grad():
            # Through the embedding module, not its weight: Gemma 3 scales there.
            embeddings_VD = base.model.get_input_embeddings()(torch.tensor(repeated, device=base.device))
        # fp32 whatever the model computes in: these few numbers are all that is learned.
        prompt_VD = torch.nn.Parameter(embeddings_VD.detach().float().clone())
        return Prompted(base.model, prompt_VD, {"initial_tokens": len(ids), "virtual_tokens": self.num_virtual_tokens})

    def restore(self, base: BaseModel, folder: Path) -> Prompted:
        import torch
        from safetensors.torch import load_file

        prompt_VD = load_file(folder / "adapter_model.safetensors")[_TENSOR].to(base.device)
        return Prompted(base.model, torch.nn.Parameter(prompt_VD), {"virtual_tokens": len(prompt_VD)})
