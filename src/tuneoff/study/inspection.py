"""What preflight asks of a model before its weights are loaded. Answers are kept: a known model needs no torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tuneoff
from tuneoff import model_headers, models
from tuneoff.cache import cache_key, file_digest, read_answer, write_answer
from tuneoff.errors import UserError
from tuneoff.methods.base import Method
from tuneoff.model_folder import ModelFolder, inspect_folder, is_adapter
from tuneoff.spec import ModelSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KIND = "checks"
# Files and folders of tuneoff that decide what is sound.
_CODE = ("engine", "methods", "models.py", "model_weights.py", "study/inspection.py")


class InspectedModel:
    """A model of a study. Every answer comes from the headers of its files, else from what is known of this model, else
    from its skeleton, which takes seconds.

    Every property and method raises `UserError` for a model that cannot be loaded.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    @cached_property
    def headers(self) -> ModelFolder | None:
        """Settings and headers; None for a GGUF file that is not converted yet."""
        folder = models.folder_with_headers(self.spec)
        return None if folder is None else inspect_folder(folder, trust_remote_code=self.spec.trust_remote_code)

    @property
    def positions(self) -> int | None:
        """Tokens that it has positions for; None if it has no limit."""
        known = None if self.headers is None else model_headers.positions(self.headers)
        if known is not None:
            return known
        answer: int | None = self._shape["positions"]
        return answer

    @property
    def embedding_rows(self) -> int:
        """Token ids that it has an embedding for."""
        known = None if self.headers is None else model_headers.embedding_rows(self.headers)
        return known if known is not None else int(self._shape["embedding_rows"])

    def check_weights(self) -> None:
        """Raise `UserError` unless the files have exactly the weights of the architecture."""
        assert self._shape

    def check_early(self, method: Method) -> None:
        """Raise `UserError` if the headers already rule a method out."""
        if self.headers is not None:
            method.check_folder(self.headers)

    def check(self, method: Method) -> str | None:
        """What `method.check` returns for the skeleton. Raises `UserError` if the method cannot be applied."""
        self.check_early(method)
        kind = type(method)
        if kind.check is Method.check:
            return None

        def ask() -> Mapping[str, Any]:
            try:
                return {"note": method.check(self._skeleton)}
            except UserError as error:
                return {"refused": str(error)}

        ours = kind.__module__.startswith(f"{tuneoff.__name__}.")
        question = [kind.__module__, kind.__qualname__, method.hyperparameters] if ours else None
        answer = self._answer(question, ask)
        if (refused := answer.get("refused")) is not None:
            raise UserError(refused)
        note: str | None = answer["note"]
        return note

    @cached_property
    def _shape(self) -> Mapping[str, Any]:
        def ask() -> Mapping[str, Any]:
            settings = self._skeleton.config.get_text_config()
            given = getattr(settings, "max_position_embeddings", None)
            return {
                "positions": given if isinstance(given, int) and given > 0 else None,
                "embedding_rows": self._skeleton.get_input_embeddings().num_embeddings,
            }

        return self._answer(["shape"], ask)

    @cached_property
    def _skeleton(self) -> PreTrainedModel:
        return models.skeleton(self.spec)

    def _answer(self, question: list[Any] | None, ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """The stored answer to a question about this model, or a new one. None as question: it cannot be stored."""
        if question is None or self._identity is None:
            return ask()
        key = cache_key(model=self._identity, question=question)
        if (known := read_answer(_KIND, key)) is not None:
            return known
        answer = ask()
        write_answer(_KIND, key, answer)
        return answer

    @cached_property
    def _identity(self) -> str | None:
        """Digest of all that a skeleton is made from. None where more decides: code of the model, another model."""
        folder = self.headers
        if folder is None or self.spec.trust_remote_code or is_adapter(models.locate(self.spec)):
            return None
        tensors = {name: [tensor.dtype, *tensor.shape] for name, tensor in folder.tensors.items()}
        return cache_key(config=folder.config, tensors=tensors, versions=models.versions(), code=_code_digests())


@functools.cache
def _code_digests() -> list[str]:
    package = Path(tuneoff.__file__).parent
    modules = [package / name for name in _CODE if name.endswith(".py")]
    files = [*modules, *(file for name in _CODE for file in (package / name).rglob("*.py"))]
    return [file_digest(path) for path in sorted(files)]
