"""Soft prompts: n virtual tokens train, and nothing else (Lester et al. 2021, arXiv:2104.08691).

`SoftPrompt` puts them before the prompt, `SoftPromptAfter` between the prompt and the answer. `SoftPrompt` has two
variants: without the words of the instruction, and trained through a network (residual reparameterization).

Shapes: V virtual tokens, D width of the model, K width of the network's bottleneck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.adapter_settings import VIRTUAL_TOKENS
from tuneoff.errors import UserError
from tuneoff.export.formats import EMBEDDINGS_FILE, ArtefactFormat
from tuneoff.methods.base import AdaptedModel, Method, save_tensors
from tuneoff.methods.hyperparameters import bounded
from tuneoff.model_folder import read_header
from tuneoff.prompts import AS_GIVEN, FIELDS_ONLY, Prompting

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tuneoff.data import Example
    from tuneoff.models import BaseModel

ADAPTER_FILE = "adapter_model.safetensors"  # PEFT's name
MOST_VIRTUAL_TOKENS = 4096


@dataclass(eq=False)
class VirtualTokens(AdaptedModel):
    """A frozen model with trained embeddings before or after the prompt.

    Attributes:
        prompt_VD: The trained embeddings, in fp32.
        after_prompt: Whether they follow the prompt instead of preceding it.
        network: Weights of the network that the embeddings pass through while they train; empty without one.
        revision: Revision of the base model, for PEFT's configuration.
    """

    prompt_VD: torch.nn.Parameter
    after_prompt: bool = False
    network: dict[str, torch.nn.Parameter] = field(default_factory=dict)
    revision: str | None = None

    def prefix(self) -> Tensor | None:
        return None if self.after_prompt else self._embeddings()

    def suffix(self) -> Tensor | None:
        return self._embeddings() if self.after_prompt else None

    def _embeddings(self) -> Tensor:
        return add_network_output(self.prompt_VD, self.network) if self.network else self.prompt_VD

    def state(self) -> dict[str, Tensor]:
        return {VIRTUAL_TOKENS: self.prompt_VD, **{f"network.{name}": weight for name, weight in self.network.items()}}

    def merge(self) -> None:
        """Replace the embeddings by the sums with the network's output, and drop the network."""
        if self.network:
            import torch

            self.prompt_VD = torch.nn.Parameter(self._embeddings().detach())
            self.network = {}

    def save(self, folder: Path) -> ArtefactFormat:
        if self.after_prompt:
            # PEFT's prompt tuning puts its tokens before the prompt, so a file in its format would be loaded wrongly.
            save_tensors({VIRTUAL_TOKENS: self._embeddings()}, folder / EMBEDDINGS_FILE)
            return "embeddings"
        from peft import PromptTuningConfig, TaskType

        config = self.model.config.get_text_config()  # of a model that also reads pictures, its part for text
        PromptTuningConfig(
            task_type=TaskType.CAUSAL_LM,
            num_virtual_tokens=self.prompt_VD.shape[0],
            token_dim=self.prompt_VD.shape[1],
            num_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_transformer_submodules=1,
            base_model_name_or_path=self.model.config.name_or_path,
            revision=self.revision,
            inference_mode=True,
        ).save_pretrained(folder)
        save_tensors({VIRTUAL_TOKENS: self._embeddings()}, folder / ADAPTER_FILE)
        return "peft"


@dataclass(frozen=True)
class SoftPrompt(Method):
    """Prompt tuning, initialized from the embeddings of a text."""

    name = "soft_prompt"
    title = "Soft prompt"
    source = "Lester et al. 2021, arXiv:2104.08691"
    citation = """@inproceedings{lester2021power,
  author = {Lester, Brian and Al-Rfou, Rami and Constant, Noah},
  title = {The Power of Scale for Parameter-Efficient Prompt Tuning},
  booktitle = {Proceedings of the 2021 Conference on Empirical Methods in Natural Language Processing},
  year = {2021}
}"""
    task_text = "initial_prompt"
    search = {"learning_rate": (1e-3, 3e-1)}

    num_virtual_tokens: int = bounded(20, at_least=1, at_most=MOST_VIRTUAL_TOKENS)
    initial_prompt: str = "Summarize the following text in one sentence."
    learning_rate: float = bounded(1e-2, above=0, at_most=100)
    weight_decay: float = bounded(0.0, at_least=0, at_most=100)
    # False: only the fields that the instruction names stay in the prompt.
    keep_instruction: bool = field(default=True, metadata={"later": True})
    residual_bottleneck: int = bounded(
        0, at_least=0, at_most=65536, description="0 (no network) or a whole number up to 65536", later=True
    )

    @property
    def overhead_tokens(self) -> int:
        return self.num_virtual_tokens

    @property
    def prompting(self) -> Prompting:
        # The fields stay: without them, two questions about one document would be the same prompt.
        return AS_GIVEN if self.keep_instruction else Prompting(FIELDS_ONLY)

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        prompt_VD, initial_tokens = embed_text(base, self.name, self.initial_prompt, self.num_virtual_tokens)
        bottleneck = self.residual_bottleneck
        return VirtualTokens(
            base.model,
            prompt_VD,
            network=residual_network(prompt_VD.shape[1], bottleneck, base.device) if bottleneck else {},
            revision=base.revision,
            details={"initial_tokens": initial_tokens, "virtual_tokens": self.num_virtual_tokens},
            prompting=self.prompting,
        )

    def restore(self, base: BaseModel, folder: Path) -> AdaptedModel:
        prompt_VD = load_virtual_tokens(base, folder / ADAPTER_FILE)
        details = {"virtual_tokens": len(prompt_VD)}
        return VirtualTokens(base.model, prompt_VD, revision=base.revision, details=details, prompting=self.prompting)


@dataclass(frozen=True)
class SoftPromptAfter(Method):
    """Prompt tuning with the virtual tokens after the document.

    What the frozen model computes for a document is then the same at every step, so it is computed once.
    """

    name = "soft_prompt_after"
    title = "Soft prompt after the document"
    source = "Lester et al. 2021, arXiv:2104.08691, at another position; the range of rates is that of soft_prompt"
    citation = SoftPrompt.citation
    task_text = "initial_prompt"
    search = {"learning_rate": (1e-3, 3e-1)}

    num_virtual_tokens: int = bounded(20, at_least=1, at_most=MOST_VIRTUAL_TOKENS)
    initial_prompt: str = "Summarize the following text in one sentence."
    learning_rate: float = bounded(1e-2, above=0, at_most=100)
    weight_decay: float = bounded(0.0, at_least=0, at_most=100)

    @property
    def overhead_tokens(self) -> int:
        return self.num_virtual_tokens

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        prompt_VD, initial_tokens = embed_text(base, self.name, self.initial_prompt, self.num_virtual_tokens)
        details = {"initial_tokens": initial_tokens, "virtual_tokens": self.num_virtual_tokens}
        return VirtualTokens(base.model, prompt_VD, after_prompt=True, details=details)

    def restore(self, base: BaseModel, folder: Path) -> AdaptedModel:
        prompt_VD = load_virtual_tokens(base, folder / EMBEDDINGS_FILE)
        return VirtualTokens(base.model, prompt_VD, after_prompt=True, details={"virtual_tokens": len(prompt_VD)})


def repeat_text(base: BaseModel, method: str, text: str, count: int) -> tuple[list[int], int]:
    """Token ids of `text`, repeated or truncated to `count`, and the number of tokens of the text itself.

    Raises `UserError` for a text without a token.
    """
    ids = base.tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise UserError(f"{method}.initial_prompt has no token; give at least one word")
    return (ids * (count // len(ids) + 1))[:count], len(ids)


def embed_text(base: BaseModel, method: str, text: str, count: int) -> tuple[torch.nn.Parameter, int]:
    """Embeddings (count, D) of the ids of `repeat_text`, in fp32, and the number of tokens of the text itself."""
    import torch

    ids, length = repeat_text(base, method, text, count)
    with torch.no_grad():
        # By calling the embedding module instead of reading its weight: Gemma 3 scales there.
        embeddings_VD = base.model.get_input_embeddings()(torch.tensor(ids, device=base.device))
    # fp32 whatever the model computes in: these few numbers are all that is learned.
    return torch.nn.Parameter(embeddings_VD.detach().float().clone()), length


def load_virtual_tokens(base: BaseModel, path: Path, width: int | None = None) -> torch.nn.Parameter:
    """The tensor (V, `width`) of virtual tokens in a safetensors file, on the device of the base model.

    `width`: by default that of the model's embeddings. Raises `UserError` for a tensor that cannot be used: the file
    may come from a stranger.
    """
    import torch
    from safetensors.torch import load_file

    header = read_header(path)
    if VIRTUAL_TOKENS not in header:
        raise UserError(f"{path}: holds no virtual tokens; copy artefact/ again, or repeat the run")
    if width is None:
        width = base.model.get_input_embeddings().weight.shape[1]
    shape = list(header[VIRTUAL_TOKENS].shape)
    if len(shape) != 2 or shape[1] != width or not 1 <= shape[0] <= MOST_VIRTUAL_TOKENS:
        raise UserError(
            f"{path}: virtual tokens of the shape {shape}, but this model has at most {MOST_VIRTUAL_TOKENS} rows of "
            f"{width} numbers; copy artefact/ again, or repeat the run"
        )
    tokens_VD = load_file(path)[VIRTUAL_TOKENS]
    if not tokens_VD.is_floating_point() or not bool(tokens_VD.isfinite().all()):
        raise UserError(f"{path}: virtual tokens that are not finite numbers; copy artefact/ again, or repeat the run")
    return torch.nn.Parameter(tokens_VD.to(base.device))


def residual_network(width: int, bottleneck: int, device: torch.device) -> dict[str, torch.nn.Parameter]:
    """Weights of the residual reparameterization (Razdaibiedina et al. 2023, arXiv:2305.03937), in fp32.

    One shallow network serves all virtual tokens. It is for training only: its outputs are what is saved. The weights
    are initialized by torch's defaults, as in the authors' code. The gain of the norm is 1 at first, so what the
    network adds to a token has mean 0 and variance 1.
    """
    import torch

    down, up = torch.nn.Linear(width, bottleneck), torch.nn.Linear(bottleneck, width)
    weights = {
        "down.weight": down.weight,
        "down.bias": down.bias,
        "up.weight": up.weight,
        "up.bias": up.bias,
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    return {name: torch.nn.Parameter(tensor.detach().float().to(device)) for name, tensor in weights.items()}


def add_network_output(tokens_VD: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """The virtual tokens (V, D) plus the network's output: down, ReLU, up, layer norm."""
    import torch.nn.functional as F

    hidden_VK = F.relu(F.linear(tokens_VD, weights["down.weight"], weights["down.bias"]))
    up_VD = F.linear(hidden_VK, weights["up.weight"], weights["up.bias"])
    return tokens_VD + F.layer_norm(up_VD, up_VD.shape[-1:], weights["norm.weight"], weights["norm.bias"])
