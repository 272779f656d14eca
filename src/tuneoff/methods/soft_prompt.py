"""Soft prompt tuning: n virtual tokens in front of the prompt train, and nothing else.

Lester et al. 2021, arXiv:2104.08691. Two variants: without the instruction's words, and trained through a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tuneoff.errors import UserError
from tuneoff.methods import residual
from tuneoff.prompts import AS_GIVEN, FIELDS_ONLY, Prompting
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
    """A frozen model with virtual tokens, and the network that they pass through while they train, if there is one."""

    model: PreTrainedModel
    prompt_VD: torch.nn.Parameter
    details: dict[str, Any] = field(default_factory=dict)
    prompting: Prompting = AS_GIVEN
    network: dict[str, torch.nn.Parameter] = field(default_factory=dict)
    revision: str | None = None  # of the model, where it has one

    def prefix(self) -> Tensor:
        return residual.projected(self.prompt_VD, self.network) if self.network else self.prompt_VD

    def suffix(self) -> Tensor | None:
        return None

    def state(self) -> dict[str, Tensor]:
        return {_TENSOR: self.prompt_VD, **{f"network.{name}": weight for name, weight in self.network.items()}}

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
            revision=self.revision,
            inference_mode=True,
        )
        written.save_pretrained(folder)
        save_file({_TENSOR: self.prefix().detach().cpu().contiguous()}, folder / "adapter_model.safetensors")
        return "peft"

    def merge(self) -> None:
        import torch

        self.prompt_VD = torch.nn.Parameter(self.prefix().detach())
        self.network = {}


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
    # False: of the instruction only the fields that it names stay in the prompt.
    keep_instruction: bool = field(default=True, metadata={"later": True})
    residual_bottleneck: int = field(default=0, metadata={"later": True})  # width of the network; 0: none

    @property
    def overhead_tokens(self) -> int:
        return self.num_virtual_tokens

    @property
    def _prompting(self) -> Prompting:
        # The fields stay: without them two questions about one document would be the same prompt.
        return AS_GIVEN if self.keep_instruction else Prompting(FIELDS_ONLY)

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> Prompted:  # noqa: ARG002
        import torch

        from tuneoff.engine.seeding import seed_everything

        seed_everything(seed)
        prompt_VD, details = text_embeddings(base, self.name, self.initial_prompt, self.num_virtual_tokens)
        bottleneck = self.residual_bottleneck
        network = residual.network(prompt_VD.shape[1], bottleneck, base.device) if bottleneck else {}
        return Prompted(base.model, torch.nn.Parameter(prompt_VD), details, self._prompting, network, base.revision)

    def restore(self, base: BaseModel, folder: Path) -> Prompted:
        import torch
        from safetensors.torch import load_file

        prompt_VD = load_file(folder / "adapter_model.safetensors")[_TENSOR].to(base.device)
        details = {"virtual_tokens": len(prompt_VD)}
        return Prompted(base.model, torch.nn.Parameter(prompt_VD), details, self._prompting)


def text_embeddings(base: BaseModel, method: str, text: str, count: int) -> tuple[Tensor, dict[str, Any]]:
    """Embeddings (count, D) of the tokens of `text`, repeated or cut to `count`, and what the record says of them.

    Raises `UserError` for a text without a token.
    """
    import torch

    ids = base.tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise UserError(f"{method}.initial_prompt has no token; give at least one word")
    repeated = (ids * (count // len(ids) + 1))[:count]
    with torch.no_grad():
        # Through the embedding module, not its weight: Gemma 3 scales there.
        embeddings_VD = base.model.get_input_embeddings()(torch.tensor(repeated, device=base.device))
    # fp32 whatever the model computes in: these few numbers are all that is learned.
    return embeddings_VD.detach().float().clone(), {"initial_tokens": len(ids), "virtual_tokens": count}
