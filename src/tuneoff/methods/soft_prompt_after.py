"""A soft prompt after the document: n virtual tokens train between the prompt and the answer, and nothing else.

What the frozen model makes of a document is then the same at every step. The vectors are trained as in Lester et al.
2021, arXiv:2104.08691; only their place is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tuneoff.methods.soft_prompt import text_embeddings
from tuneoff.prompts import AS_GIVEN, Prompting
from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from tuneoff.data import Example
    from tuneoff.models import BaseModel

_TENSOR = "prompt_embeddings"
_FILE = "virtual_tokens.safetensors"


@dataclass
class Followed:
    """A frozen model with virtual tokens after the prompt."""

    model: PreTrainedModel
    prompt_VD: torch.nn.Parameter
    details: dict[str, Any] = field(default_factory=dict)
    prompting: Prompting = AS_GIVEN

    def prefix(self) -> Tensor | None:
        return None

    def suffix(self) -> Tensor:
        return self.prompt_VD

    def state(self) -> dict[str, Tensor]:
        return {_TENSOR: self.prompt_VD}

    def train_mode(self, on: bool) -> None:  # noqa: ARG002
        # The base stays in evaluation mode: dropout of a model that does not learn is only noise on the gradient.
        self.model.eval()

    def save(self, folder: Path) -> Literal["embeddings"]:
        from safetensors.torch import save_file

        # PEFT's prompt tuning puts its tokens in front: a file in its format would be loaded into the wrong place.
        save_file({_TENSOR: self.prompt_VD.detach().cpu().contiguous()}, folder / _FILE)
        return "embeddings"

    def merge(self) -> None:
        return None


@dataclass(frozen=True)
class SoftPromptAfter:
    """Prompt tuning with the virtual tokens after the document, initialised from the embeddings of a text."""

    name: ClassVar[str] = "soft_prompt_after"
    title: ClassVar[str] = "Soft prompt after the document"
    trains: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"learning_rate": (1e-3, 3e-1)}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    source: ClassVar[str] = (
        "Lester et al. 2021, arXiv:2104.08691, in another place; the range of rates is soft_prompt's"
    )

    num_virtual_tokens: int = 20
    initial_prompt: str = "Summarize the following text in one sentence."
    learning_rate: float = 1e-2
    weight_decay: float = 0.0

    @property
    def overhead_tokens(self) -> int:
        return self.num_virtual_tokens

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> Followed:  # noqa: ARG002
        import torch

        from tuneoff.engine.seeding import seed_everything

        seed_everything(seed)
        prompt_VD, details = text_embeddings(base, self.name, self.initial_prompt, self.num_virtual_tokens)
        return Followed(base.model, torch.nn.Parameter(prompt_VD), details)

    def restore(self, base: BaseModel, folder: Path) -> Followed:
        import torch
        from safetensors.torch import load_file

        prompt_VD = load_file(folder / _FILE)[_TENSOR].to(base.device)
        return Followed(base.model, torch.nn.Parameter(prompt_VD), {"virtual_tokens": len(prompt_VD)})
