"""What a method is, and what it makes of a base model.

Torch is imported inside functions: names and values of hyper-parameters are checked before it is loaded.
"""

from __future__ import annotations

import dataclasses
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tuneoff.errors import UserError
from tuneoff.export.formats import SHOTS_FILE, TENSORS_FILE, ArtefactFormat
from tuneoff.methods.hyperparameters import check_value, types_of
from tuneoff.model_folder import read_header
from tuneoff.model_weights import written_by_libraries
from tuneoff.prompts import AS_GIVEN, Prompting
from tuneoff.spec.run import Scalar
from tuneoff.spec.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tuneoff.data import Example
    from tuneoff.engine.loss import KeyValuePrefix
    from tuneoff.model_folder import ModelFolder
    from tuneoff.models import BaseModel


@dataclass(frozen=True)
class Method(ABC):
    """A way of adapting a model. A subclass is a frozen dataclass whose fields are its hyper-parameters.

    A subclass sets `name`, `title` and `source`, and implements `apply`. Everything else has a default. A method that
    trains has the hyper-parameters `learning_rate` and `weight_decay`. Numbers are declared with `bounded`.

    Raises:
        UserError: A hyper-parameter has the wrong type or is out of bounds.
    """

    name: ClassVar[str]  # lower-case letters, digits and underscores
    title: ClassVar[str]  # for tables and plots
    source: ClassVar[str]  # paper or documentation behind the defaults
    citation: ClassVar[str] = ""  # BibTeX entries of the papers that describe the method
    trains: ClassVar[bool] = True
    seeded: ClassVar[bool] = True  # the seed changes the generated texts
    search: ClassVar[Mapping[str, tuple[float, float]]] = {}  # hyper-parameter -> range, searched on a log scale
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}  # hyper-parameter -> values, tried in this order
    # The same where the texts to write are not summaries, for hyper-parameters whose values name the task.
    choices_for_other_tasks: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    task_text: ClassVar[str | None] = None  # hyper-parameter that holds an instruction; its default asks for summaries

    def __post_init__(self) -> None:
        declared = types_of(type(self))
        for entry in dataclasses.fields(self):
            value = check_value(self.name, entry, declared[entry.name], getattr(self, entry.name))
            object.__setattr__(self, entry.name, value)  # an int as a float, a list as a tuple

    @property
    def hyperparameters(self) -> dict[str, Scalar]:
        """All hyper-parameters and their values."""
        return {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}

    @property
    def changed_hyperparameters(self) -> dict[str, Scalar]:
        """The hyper-parameters whose values differ from the defaults."""
        defaults = type(self)().hyperparameters
        return {name: value for name, value in self.hyperparameters.items() if value != defaults[name]}

    @classmethod
    def values_to_try(cls, hyperparameter: str, task: Task) -> tuple[Scalar, ...]:
        """The values of a hyper-parameter of `choices`, in the order of trials."""
        return {**cls.choices, **(cls.choices_for_other_tasks if task == "other" else {})}[hyperparameter]

    @property
    def overhead_tokens(self) -> int:
        """Number of virtual tokens before or after the prompt."""
        return 0

    @property
    def generates_by_beams(self) -> bool:
        """Whether its models can generate by beam search, which transformers does."""
        return True

    @property
    def prompting(self) -> Prompting:
        """What the method changes about prompts."""
        return AS_GIVEN

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        """Apply the method to `base`, which it changes, after seeding every random generator.

        Args:
            base: A loaded model, no parameter of which requires a gradient.
            train: The training examples.
            seed: The run's seed. The same seed gives the same adapted model.

        Raises:
            UserError: The method cannot be applied to this model or data.
        """
        self.check(base.model)
        seed_everything(seed)
        return self.apply(base, train, seed)

    def check(self, model: PreTrainedModel) -> str | None:
        """Raise `UserError` unless the method can be applied to a model of this architecture.

        Returns what a user should know about the method on it. Reads no weight: parameters may be on the meta device.
        """
        return None

    def check_folder(self, folder: ModelFolder) -> None:  # noqa: B027 - a hook, empty by default
        """Raise `UserError` if settings, names and shapes of the weights already rule the method out.

        It is called long before `check`, without torch, so that a mistake is reported at once.
        """

    @abstractmethod
    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        """What `adapt` does once everything is seeded. Parameters that train must require a gradient in the result."""

    def restore(self, base: BaseModel, folder: Path) -> AdaptedModel:
        """The adapted model after training, read from the folder that `AdaptedModel.save` wrote.

        By default it is the base with the trained parameters. Override it together with `AdaptedModel.save`.

        Raises:
            UserError: The folder belongs to another model.
        """
        if self.trains:
            load_trained_tensors(base.model, folder / TENSORS_FILE)
        return AdaptedModel(base.model, prompting=self.prompting)


@dataclass(eq=False)
class AdaptedModel:
    """A model after a method was applied. It can be used as it is if parameters of the model train."""

    model: PreTrainedModel
    _: KW_ONLY
    details: dict[str, Any] = field(default_factory=dict)  # for the record: matched modules, initialisation ...
    prompting: Prompting = AS_GIVEN  # what the method changes about prompts
    # Modules in training mode while the model trains. Everything else stays in evaluation mode: dropout in layers that
    # do not learn would only add noise to the gradient.
    modules_with_dropout: Sequence[nn.Module] = ()
    notes: Sequence[str] = ()  # for the user, about the method on this model
    tokenizer: PreTrainedTokenizerBase | None = None  # if given, the whole model is saved, and the tokenizer with it

    def prefix(self) -> Tensor | KeyValuePrefix | None:
        """What directly precedes the prompt: embeddings (virtual tokens V, width D), or keys and values of every
        layer."""
        return None

    def suffix(self) -> Tensor | None:
        """Embeddings (virtual tokens V, width D) between the prompt and the answer. No method has a prefix too."""
        return None

    def state(self) -> dict[str, Tensor]:
        """The trainable tensors by name (not copied). By default, the model's parameters that require a gradient."""
        return {name: tensor for name, tensor in self.model.named_parameters() if tensor.requires_grad}

    def train_mode(self, on: bool) -> None:
        """Switch dropout on or off. The trainer calls it before every optimiser step."""
        self.model.eval()
        for module in self.modules_with_dropout:
            module.train(on)

    def merge(self) -> None:
        """Fold what was added to the model into its weights, if possible. Generation then costs what the base costs."""

    def save(self, folder: Path) -> ArtefactFormat:
        """Write the files that a user needs to load the result without tuneoff, and return their format.

        By default that is the whole model if there is a `tokenizer`, else the trained tensors, else the examples that
        prompts begin with.
        """
        if self.tokenizer is not None:
            with written_by_libraries("the trained model"):
                self.model.save_pretrained(folder)
                self.tokenizer.save_pretrained(folder)
            return "transformers"
        if trained := self.state():
            save_tensors(trained, folder / TENSORS_FILE)
            return "tensors"
        if self.prompting.shots:
            shots = [dataclasses.asdict(shot) for shot in self.prompting.shots]
            (folder / SHOTS_FILE).write_text(json.dumps(shots, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            return "prompt"
        return "none"


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (every device)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def load_trained_tensors(model: PreTrainedModel, path: Path) -> None:
    """Load some of a model's parameters. Raises `UserError` if the model does not have one of them."""
    from safetensors.torch import load_file

    read_header(path)
    _, unexpected = model.load_state_dict(load_file(path), strict=False)
    if unexpected:
        raise UserError(f"{path}: this model has no parameter {unexpected[0]}; use the base model that was tuned")
