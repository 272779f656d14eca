"""Writes a model as a GGUF file, which llama.cpp reads: settings, tensors and vocabulary.

The names of tensors come from the package `gguf`. The order of rows and the settings follow what llama.cpp's graphs of
these architectures (src/models) expect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tuneoff.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt
    from transformers import PreTrainedModel

    from tuneoff.export.gguf_vocabulary import Vocabulary

NumberType = Literal["f16", "bf16", "f32", "q8_0"]
NUMBER_TYPES: tuple[NumberType, ...] = get_args(NumberType)
# Architectures of transformers that llama.cpp does not have at all.
_NOT_IN_LLAMA_CPP = frozenset({"gpt_neo", "opt", "xglm", "biogpt", "codegen", "ctrl", "openai-gpt"})
_BLOCK = 32  # numbers that share a scale in q8_0
_CONVERTER = "convert that folder with llama.cpp's convert_hf_to_gguf.py"


@dataclass(frozen=True)
class _Architecture:
    """How one family is written. `refuse` returns what of its settings llama.cpp does not have, or None."""

    name: str
    add_settings: Callable[[Any, Any], None]
    refuse: Callable[[Any], str | None]
    transposed: tuple[str, ...] = ()  # endings of names of matrices that are stored the other way round
    rotated: bool = False  # the rows of queries and keys alternate between the halves of a head


def check_architecture(config: Mapping[str, Any]) -> None:
    """Raise `UserError` unless models with this `config.json` can be written as GGUF."""
    kind = str(config.get("model_type"))
    if kind in _ARCHITECTURES:
        return
    if kind in _NOT_IN_LLAMA_CPP:
        raise UserError(f"--to gguf: llama.cpp has no models of the kind {kind}; use --to merged, for transformers")
    raise UserError(
        f"--to gguf: tuneoff writes GGUF files of {', '.join(_ARCHITECTURES)}, not of {kind}; use --to merged, and if "
        f"llama.cpp knows the kind, {_CONVERTER}"
    )


def write_gguf(
    model: PreTrainedModel, vocabulary: Vocabulary, path: Path, numbers: NumberType, *, name: str, context: int
) -> None:
    """Write `path`. `numbers` is the type of matrices; vectors and GPT-2's positions are stored as f32.

    `context`: positions of the model. Raises `UserError` for settings that llama.cpp does not have.
    """
    import gguf

    config = model.config
    check_architecture(config.to_dict())
    architecture = _ARCHITECTURES[config.model_type]
    if (reason := architecture.refuse(config)) is not None:
        raise UserError(f"--to gguf: llama.cpp has no {config.model_type} with {reason}; use --to merged")
    writer = gguf.GGUFWriter(path, architecture.name)
    writer.add_name(name)
    writer.add_context_length(context)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(_file_type(numbers))
    if numbers == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    architecture.add_settings(writer, config)
    _add_vocabulary(writer, vocabulary)
    for tensor, values in _tensors(model, architecture):
        kind = _type_of(tensor, values, numbers)
        writer.add_tensor(tensor, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(model: PreTrainedModel, architecture: _Architecture) -> list[tuple[str, npt.NDArray[Any]]]:
    """The parameters under llama.cpp's names, in fp32. Raises `UserError` for one that it does not know."""
    import gguf
    import numpy as np

    names = gguf.get_tensor_name_map(_architecture_id(architecture.name), model.config.num_hidden_layers)
    found = []
    for name, parameter in model.named_parameters():  # a head that is tied to the embeddings is not among them
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if theirs is None:
            raise UserError(f"--to gguf: llama.cpp has no parameter {name!r} in such a model; use --to merged")
        values = parameter.detach().cpu().float().numpy()
        if name.endswith(architecture.transposed):
            values = values.T
        if architecture.rotated and name.endswith(_ROTATED):
            heads = model.config.num_key_value_heads if ".k_proj." in name else model.config.num_attention_heads
            values = _alternating(values, heads)
        found.append((theirs, np.ascontiguousarray(values)))
    if (factors := _rope_factors(model.config)) is not None:
        found.append(("rope_freqs.weight", factors))
    return found


_ROTATED = ("q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias")


def _alternating(values: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Rows of queries or keys in the order of llama.cpp's llama: transformers has the halves of a head in turn."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _type_of(name: str, values: npt.NDArray[Any], numbers: NumberType) -> Any:
    import gguf

    types = gguf.GGMLQuantizationType
    if values.ndim == 1 or name == "position_embd.weight":
        return types.F32
    if numbers == "q8_0" and values.shape[-1] % _BLOCK:
        return types.F16
    return types[numbers.upper()]


def _file_type(numbers: NumberType) -> int:
    import gguf

    kinds = gguf.LlamaFileType
    found = {
        "f32": kinds.ALL_F32,
        "f16": kinds.MOSTLY_F16,
        "bf16": kinds.MOSTLY_BF16,
        "q8_0": kinds.MOSTLY_Q8_0,
    }
    return int(found[numbers])


def _architecture_id(name: str) -> Any:
    import gguf

    return next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")  # llama.cpp's name for byte-level BPE
    writer.add_tokenizer_pre(vocabulary.pre_tokenizer)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges(vocabulary.merges)
    for kind, index in vocabulary.special.items():
        getattr(writer, f"add_{kind}_token_id")(index)
    writer.add_add_bos_token(False)  # prompts hold it where the model wants it
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)


def _rope(config: Any) -> dict[str, Any]:
    return dict(getattr(config, "rope_parameters", None) or {})


def _rope_factors(config: Any) -> npt.NDArray[Any] | None:
    """What Llama 3 divides the frequencies of its positions by; None for other kinds of positions."""
    import numpy as np

    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    width = _head_width(config)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    frequencies = 1.0 / rope["rope_theta"] ** (np.arange(0, width, 2, dtype=np.float64) / width)
    wavelengths = 2 * math.pi / frequencies
    smooth = np.clip((original / wavelengths - low) / (high - low), 0, 1)
    return np.asarray(1 / ((1 - smooth) / rope["factor"] + smooth), np.float32)


def _head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _llama_settings(writer: Any, config: Any) -> None:
    import gguf

    rope, width = _rope(config), _head_width(config)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_rope_dimension_count(width)
    writer.add_key_length(width)
    writer.add_value_length(width)
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))


def _refused_llama(config: Any) -> str | None:
    if config.hidden_act != "silu":
        return f"the activation {config.hidden_act}"
    if (kind := _rope(config).get("rope_type", "default")) not in ("default", "linear", "llama3"):
        return f"positions of the kind {kind}"
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True) and window < config.max_position_embeddings:
        return "a sliding window"
    return None


def _refused_qwen2(config: Any) -> str | None:
    # llama.cpp loads no frequency factors for it, and derives the head width (src/models/qwen2.cpp at 0c1e570).
    if _rope(config).get("rope_type") == "llama3":
        return "positions of the kind llama3"
    if _head_width(config) * config.num_attention_heads != config.hidden_size:
        return f"heads of width {_head_width(config)}"
    return _refused_llama(config)


def _gpt2_settings(writer: Any, config: Any) -> None:
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _refused_gpt2(config: Any) -> str | None:
    if config.activation_function not in ("gelu_new", "gelu_pytorch_tanh"):
        return f"the activation {config.activation_function}"
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights:
        return "another scale of the attention"
    return None


# By `model_type` of transformers.
_ARCHITECTURES = {
    "llama": _Architecture("llama", _llama_settings, _refused_llama, rotated=True),
    "mistral": _Architecture("llama", _llama_settings, _refused_llama, rotated=True),
    "qwen2": _Architecture("qwen2", _llama_settings, _refused_qwen2),
    "gpt2": _Architecture(
        "gpt2",
        _gpt2_settings,
        _refused_gpt2,
        transposed=("c_attn.weight", "c_proj.weight", "c_fc.weight"),
    ),
}
