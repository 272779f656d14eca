"""What the settings of a PEFT adapter may ask for, whoever wrote them: PEFT does whatever they say."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.confined import LimitReached, ProcessLimits, call_confined
from tuneoff.errors import UserError

if TYPE_CHECKING:
    from torch import nn

# Settings that name a module to import, or files to load. `shadow_model` is `mirror` if it names none.
_LOADS = (
    *("megatron_config", "prompt_tuning_init_state_dict_path", "tokenizer_name_or_path", "adapters", "shadow_model"),
    "auto_mapping",
)
# Regular expressions: a text is matched with the name of every module; of a table, the keys are.
_EXPRESSIONS = re.compile(r"target_modules|exclude_modules|modules_to_save|layers_pattern|\w+_pattern|\w+_bias_modules")
_MATCHING = ProcessLimits(memory_bytes=10**9, cpu_seconds=5, wall_seconds=60, result_bytes=1000)
# How large the tensors of an adapter become: beside each matrix of the model, for each of its rows and columns.
_RANKS = re.compile(r"(\w+_)?(r|rank)|rank_pattern|adapter_len")
_FREQUENCIES = re.compile(r"n_frequency(_pattern)?")  # beside each matrix, whatever its shape
_LENGTHS = re.compile(r"vector_length|num_vectors|theta_d_length|num_subspaces|\w*hidden_size|token_dim")
_LEAST_WIDTH = 1000  # of what these are multiplied with
# Kinds whose large tensors are there once for all matrices.
_SHARED = frozenset({"VERA", "PVERA", "RANDLORA", "FROD", "UNILORA", "VBLORA", "TINYLORA"})
_ALWAYS_ELEMENTS, _MOST_GROWTH = 2 * 10**8, 100
_ROUNDS = re.compile(
    r"\w*_?n?iter|\w*butterfly_factor|\w*_terms|nblocks|n_(skills|splits|tasks)|xlora_depth|boft_block_num"
)
_MOST_ROUNDS, _MOST_LAYERS = 1_000, 1_024
VIRTUAL_TOKENS = "prompt_embeddings"  # PEFT's name of this tensor
_VIRTUAL = ("PROMPT_TUNING", "PREFIX_TUNING")


def loads_more(settings: Mapping[str, Any]) -> str | None:
    """The first setting that names code, a pickle or another model to load; None without."""
    return next((key for key in _LOADS if settings.get(key) and not _is_harmless(key, settings[key])), None)


def _is_harmless(key: str, value: object) -> bool:
    if key == "auto_mapping":  # PEFT imports its `parent_library`
        library = value.get("parent_library") if isinstance(value, dict) else value
        return library is None or (isinstance(library, str) and library.split(".")[0] == "transformers")
    return key == "shadow_model" and value == "mirror"


def check_effort(where: Path | str, settings: Mapping[str, Any], stored_elements: int, model: nn.Module) -> None:
    """Raise `UserError` for settings that would take far more memory or time than the adapter's own weights need.

    Args:
        where: path or method that the settings are of, for messages.
        settings: as they were read from a file.
        stored_elements: numbers in the adapter's weights.
        model: that the adapter is put into.
    """
    widths = [sum(each.shape) for each in model.parameters() if each.ndim > 1]
    width = max(widths, default=1) if settings.get("peft_type") in _SHARED else sum(widths)
    _check_numbers(where, settings, stored_elements, width, len(widths))
    _check_expressions(where, settings, [name for name, _ in model.named_modules()])


def check_stored(where: Path | str, settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `UserError` for settings whose numbers do not fit the adapter's own weights, where no model is loaded.

    `shapes` are those of its tensors by name. Virtual tokens must have exactly the number and the width of theirs.
    """
    kind, tokens = settings.get("peft_type"), shapes.get(VIRTUAL_TOKENS)
    if (kind in _VIRTUAL) != (tokens is not None):
        raise UserError(f"{where}: `peft_type` is {kind}, which is not what its weights are; export the run again")
    if tokens is not None:
        repeated = settings.get("num_transformer_submodules") or 1
        layers = 2 * _whole(settings.get("num_layers")) if kind == "PREFIX_TUNING" else 1
        said = (
            _whole(settings.get("num_virtual_tokens")) * _whole(repeated),
            _whole(settings.get("token_dim")) * layers,
        )
        if said != tokens or settings.get("prefix_projection"):
            raise UserError(
                f"{where}: settings of virtual tokens of the shape {list(said)}, but its weights have {list(tokens)}; "
                "export the run again"
            )
    widths = [sum(shape) for shape in shapes.values() if len(shape) > 1]
    _check_numbers(where, settings, sum(map(math.prod, shapes.values())), max(widths, default=1), len(widths))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _check_numbers(
    where: Path | str, settings: Mapping[str, Any], stored_elements: int, width: int, matrices: int
) -> None:
    """`width`: rows and columns of all matrices that an adapter is put beside; `matrices`: their number."""
    most = _ALWAYS_ELEMENTS + _MOST_GROWTH * stored_elements
    for keys, elements in ((_RANKS, width), (_FREQUENCIES, matrices), (_LENGTHS, _LEAST_WIDTH)):
        for key, number in _numbers(settings, keys):
            if number * elements > most:
                raise _beyond_reason(where, key, number)
    for key, number in (*_numbers(settings, _ROUNDS), *_rounds_in_words(settings), *_copied_layers(settings)):
        if number > (_MOST_LAYERS if key == "layer_replication" else _MOST_ROUNDS):
            raise _beyond_reason(where, key, number)


def _beyond_reason(where: Path | str, key: str, number: float) -> UserError:
    return UserError(
        f"{where}: `{key}` is {number:,}, which is beyond reason for its weights; correct it, or copy it again"
    )


def adds_layers(settings: Mapping[str, Any]) -> bool:
    """Whether PEFT puts such an adapter into the layers of a model, and not before its inputs."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PromptLearningConfig

    kind = settings.get("peft_type")
    found = PEFT_TYPE_TO_CONFIG_MAPPING.get(kind) if isinstance(kind, str) else None
    return found is None or not issubclass(found, PromptLearningConfig)


def _numbers(settings: Mapping[str, Any], keys: re.Pattern[str]) -> Iterator[tuple[str, float]]:
    """The numbers in the settings with such names, also those of tables by module."""
    for key, value in settings.items():
        if keys.fullmatch(key):
            for each in value.values() if isinstance(value, dict) else [value]:
                if isinstance(each, int | float) and not isinstance(each, bool):
                    yield key, each


def _rounds_in_words(settings: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """`pissa_niter_16` is a way of starting in 16 rounds."""
    for key, value in settings.items():
        if isinstance(value, str) and (found := re.search(r"_niter_(\d{1,18})", value)):
            yield key, int(found[1])


def _copied_layers(settings: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """How many layers a model has that is put together from ranges of its layers."""
    ranges = settings.get("layer_replication")
    pairs = [each for each in ranges if isinstance(each, list)] if isinstance(ranges, list) else []
    ends = [(each[0], each[-1]) for each in pairs if each and all(isinstance(end, int) for end in each)]
    yield "layer_replication", sum(max(1, end - start) for start, end in ends)


def _check_expressions(where: Path | str, settings: Mapping[str, Any], names: Iterable[str]) -> None:
    expressions = list(_expressions(settings))
    modules = list(names)

    def match() -> bytes:
        for expression in expressions:
            for form in (rf"(?:^|.*\.)?(?:{expression})(?:$|\..*)", expression):  # PEFT has both
                try:
                    compiled = re.compile(form)
                except (re.error, OverflowError, RecursionError):  # PEFT says what is wrong
                    continue
                for name in modules:
                    compiled.fullmatch(name)
        return b""

    try:
        call_confined(match, _MATCHING)
    except LimitReached as error:
        raise UserError(
            f"{where}: matching its patterns with the names of the model's layers {error}; name the layers in full"
        ) from error


def _expressions(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        if _EXPRESSIONS.fullmatch(key):
            # A list of targets holds plain names; other lists hold expressions.
            found = [value] if isinstance(value, str) else [] if key.startswith(("target", "exclude")) else value
            if isinstance(found, dict | list):
                yield from (each for each in found if isinstance(each, str))
