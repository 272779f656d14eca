"""Tuning of a subset of the model's own parameters: the last blocks, the norms, or the biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.errors import UserError
from tuneoff.methods.base import AdaptedModel, Method
from tuneoff.methods.full import replace_model
from tuneoff.methods.hyperparameters import bounded
from tuneoff.model_headers import has_no_bias, most_blocks

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tuneoff.data import Example
    from tuneoff.model_folder import ModelFolder
    from tuneoff.models import BaseModel


@dataclass(frozen=True)
class LastLayers(Method):
    """The last `num_layers` blocks and the norm after them. Several courses call this traditional fine-tuning."""

    name = "last_layers"
    title = "Last layers"
    source = "Yosinski et al. 2014, arXiv:1411.1792; rates as for full tuning"
    citation = """@inproceedings{yosinski2014transferable,
  author = {Yosinski, Jason and Clune, Jeff and Bengio, Yoshua and Lipson, Hod},
  title = {How Transferable are Features in Deep Neural Networks?},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {27},
  year = {2014}
}"""
    search = {"learning_rate": (1e-5, 1e-3)}

    num_layers: int = bounded(2, at_least=1, at_most=4096)
    learning_rate: float = bounded(1e-4, above=0, at_most=100)
    weight_decay: float = bounded(0.0, at_least=0, at_most=100)

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        blocks, norms = _blocks_and_norms(base.model)
        tuned = [*blocks[-self.num_layers :], *norms]
        for module in tuned:
            module.requires_grad_(True)  # autograd stops below the lowest of them by itself
        details = {"blocks": len(blocks), "tuned_blocks": self.num_layers}
        return AdaptedModel(base.model, details=details, modules_with_dropout=tuned, tokenizer=base.tokenizer)

    def check(self, model: PreTrainedModel) -> str | None:
        blocks, _ = _blocks_and_norms(model)
        self._check_number(len(blocks))
        return None

    def check_folder(self, folder: ModelFolder) -> None:
        if (blocks := most_blocks(folder)) is not None:
            self._check_number(blocks)

    def _check_number(self, blocks: int) -> None:
        if self.num_layers > blocks:
            raise UserError(
                f"last_layers.num_layers = {self.num_layers}: this model has {blocks} blocks; choose at most as many"
            )

    def restore(self, base: BaseModel, folder: Path) -> AdaptedModel:
        replace_model(base, folder)
        return AdaptedModel(base.model, tokenizer=base.tokenizer)


@dataclass(frozen=True)
class LNTuning(Method):
    """The weights and biases of all norms (Zhao et al. 2023)."""

    name = "ln_tuning"
    title = "LN tuning"
    source = "Zhao et al. 2023, arXiv:2312.11420; rate: PEFT's method_comparison"
    citation = """@misc{zhao2023tuning,
  author = {Zhao, Bingchen and Tu, Haoqin and Wei, Chen and Mei, Jieru and Xie, Cihang},
  title = {Tuning {LayerNorm} in Attention: Towards Efficient Multi-Modal {LLM} Finetuning},
  year = {2023},
  eprint = {2312.11420},
  archivePrefix = {arXiv}
}"""
    search = {"learning_rate": (3e-4, 3e-2)}

    learning_rate: float = bounded(3e-3, above=0, at_most=100)
    weight_decay: float = bounded(0.0, at_least=0, at_most=100)

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        return tune_parameters(base.model, _norm_parameters(base.model))

    def check(self, model: PreTrainedModel) -> str | None:
        if not _norm_parameters(model):
            raise UserError(f"ln_tuning: {type(model).__name__} has no norm with weights; use lora")
        return None


@dataclass(frozen=True)
class BitFit(Method):
    """The biases (Ben Zaken et al. 2021). Models without biases (Llama, Gemma) cannot be tuned in this way."""

    name = "bitfit"
    title = "BitFit"
    source = "Ben Zaken et al. 2021, arXiv:2106.10199"
    citation = """@inproceedings{benzaken2022bitfit,
  author = {Ben Zaken, Elad and Goldberg, Yoav and Ravfogel, Shauli},
  title = {{BitFit}: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models},
  booktitle = {Proceedings of the 60th Annual Meeting of the Association for Computational Linguistics},
  year = {2022}
}"""
    search = {"learning_rate": (1e-4, 1e-2)}

    learning_rate: float = bounded(1e-3, above=0, at_most=100)
    weight_decay: float = bounded(0.0, at_least=0, at_most=100)

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        return tune_parameters(base.model, _biases(base.model))

    def check(self, model: PreTrainedModel) -> str | None:
        if not _biases(model):
            raise _without_biases(type(model).__name__)
        return None

    def check_folder(self, folder: ModelFolder) -> None:
        if has_no_bias(folder):
            raise _without_biases(f"a model of the kind {folder.config['model_type']}")


def tune_parameters(model: PreTrainedModel, names: set[str]) -> AdaptedModel:
    """The model with these parameters trainable and all others frozen."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    return AdaptedModel(model, details={"tuned_tensors": len(names)})


def _without_biases(model: str) -> UserError:
    return UserError(f"bitfit: {model} has no biases to tune; use ln_tuning or ia3")


def _biases(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.endswith(".bias")}


def _norm_parameters(model: nn.Module) -> set[str]:
    return {
        f"{module}.{parameter}"
        for module, norm in model.named_modules()
        if _is_norm(norm)
        for parameter, _ in norm.named_parameters(recurse=False)
    }


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


def _blocks_and_norms(model: PreTrainedModel) -> tuple[list[nn.Module], list[nn.Module]]:
    """The decoder's blocks in order (its longest list of modules), and the norms beside them but of the embeddings."""
    from tuneoff.engine.frozen_trunk import list_of_blocks

    blocks = list_of_blocks(model)
    if blocks is None:
        raise UserError(f"last_layers: {type(model).__name__} has no list of blocks to choose from; use full or lora")
    owner = next(module for module in model.modules() if any(child is blocks for child in module.children()))
    # Not by position: BLOOM has a norm after the embeddings, and OPT names its final norm before the blocks.
    norms = [child for name, child in owner.named_children() if _is_norm(child) and "embed" not in name]
    return list(blocks), norms
