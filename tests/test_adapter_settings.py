"""Settings of an adapter that would load something else, or take far more than its weights need, are refused."""

import re
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tuneoff import adapter_settings
from tuneoff.adapter_settings import adds_layers, check_effort, check_stored, loads_more
from tuneoff.confined import ProcessLimits
from tuneoff.errors import UserError

PATH = Path("adapter_config.json")
SLOW = "(([a-z_.0-9]+)+)+X"  # takes longer with each letter of a name
# As PEFT writes them.
USUAL: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 16,
    "lora_alpha": 65_536,
    "target_modules": ["first", "second"],
    "exclude_modules": None,
    "modules_to_save": None,
    "layers_pattern": None,
    "rank_pattern": {"first": 8},
    "alpha_pattern": {},
    "layer_replication": None,
    "init_lora_weights": True,
    "megatron_config": None,
    "megatron_core": "megatron.core",
}


@pytest.fixture
def model() -> nn.Module:
    return nn.ModuleDict({name: nn.Linear(32, 32) for name in ("first_layer_with_a_long_name", "second")})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": r"^(?!.*head).*\.(first|second)$", "modules_to_save": ["head"]},
        {"target_modules": "(not an expression"},
        {"layer_replication": [[0, 4], [2, 5]]},
        {"init_lora_weights": "pissa_niter_16"},
        {"peft_type": "VERA", "r": 256},
        {"peft_type": "FOURIERFT", "n_frequency": 1000},
        {"peft_type": "SHADOW", "shadow_model": "mirror"},
    ],
)
def test_what_people_use_is_allowed(settings: dict[str, Any], model: nn.Module) -> None:
    assert loads_more(USUAL | settings) is None
    check_effort(PATH, USUAL | settings, 1000, model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("r", 10**9),
        ("r", 1e308),
        ("init_r", 10**9),
        ("rank_pattern", {"first": 10**9}),
        ("n_frequency", 10**10),
        ("layer_replication", [[0, 2]] * 100_000),
        ("layer_replication", [[0, 10**9]]),
        ("init_lora_weights", "pissa_niter_100000000"),
        ("psoft_svd_lowrank_niter", 10**9),
        ("vector_length", 10**9),
        ("encoder_hidden_size", 10**9),
    ],
)
def test_numbers_beyond_reason_are_refused(key: str, value: object, model: nn.Module) -> None:
    with pytest.raises(UserError, match=rf"adapter_config\.json: `{key}` is [\d,.e+]+, which is beyond reason"):
        check_effort(PATH, USUAL | {key: value}, 1000, model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target_modules", SLOW),
        ("target_modules", f"(?i){SLOW}"),  # an expression on its own only
        ("rank_pattern", {SLOW: 8}),
        # Each takes a second of a processor.
        pytest.param("exclude_modules", SLOW, marks=pytest.mark.slow),
        pytest.param("modules_to_save", [SLOW], marks=pytest.mark.slow),
        pytest.param("alpha_pattern", {SLOW: 8}, marks=pytest.mark.slow),
        pytest.param("layers_pattern", SLOW, marks=pytest.mark.slow),
    ],
)
def test_patterns_that_never_end_are_refused(
    key: str, value: object, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_settings, "_MATCHING", ProcessLimits(10**9, 1, 30, 1000))
    began = time.monotonic()
    with pytest.raises(UserError, match=re.escape("matching its patterns with the names of the model's layers needs")):
        check_effort(PATH, USUAL | {key: value}, 1000, model)
    assert time.monotonic() - began < 25


@pytest.mark.parametrize(("kind", "adds"), [("LORA", True), ("IA3", True), ("PROMPT_TUNING", False), (None, True)])
def test_virtual_tokens_are_no_layers(kind: str | None, adds: bool) -> None:
    assert adds_layers({"peft_type": kind, "num_virtual_tokens": 10**6}) == adds


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("megatron_config", {"a": 1}),
        ("prompt_tuning_init_state_dict_path", "weights.pt"),
        ("shadow_model", "owner/model"),
        ("adapters", {"first": "owner/adapter"}),
    ],
)
def test_settings_that_load_something_else_are_named(key: str, value: object) -> None:
    assert loads_more(USUAL | {key: value}) == key


@pytest.mark.parametrize(
    ("settings", "shapes", "fits"),
    [
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4, "token_dim": 8}, (4, 8), True),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4 * 10**7, "token_dim": 8}, (4, 8), False),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": "4", "token_dim": 8}, (4, 8), False),
        ({"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4, "token_dim": 4, "num_layers": 3}, (4, 24), True),
        ({"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4, "token_dim": 4, "num_layers": 10**9}, (4, 24), False),
        ({"peft_type": "LORA", "r": 8}, (4, 8), False),
        ({"peft_type": "LORA", "r": 8}, None, True),
        ({"peft_type": "LORA", "r": 40_000_000}, None, False),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4, "token_dim": 8}, None, False),
    ],
)
def test_settings_fit_the_weights_without_a_model(
    settings: dict[str, Any], shapes: tuple[int, ...] | None, fits: bool
) -> None:
    tensors = {"a.lora_A.weight": (8, 64)} if shapes is None else {"prompt_embeddings": shapes}
    with nullcontext() if fits else pytest.raises(UserError, match=r"adapter_config\.json: "):
        check_stored(PATH, settings, tensors)


@pytest.mark.parametrize(
    ("library", "named"), [("transformers.models.llama", None), ("os", "auto_mapping"), (3, "auto_mapping")]
)
def test_a_library_to_import_is_that_of_the_models(library: object, named: str | None) -> None:
    assert loads_more(USUAL | {"auto_mapping": {"base_model_class": "x", "parent_library": library}}) == named
