"""Fields with bounds: what is accepted, converted and refused, and with which message."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from tuneoff.errors import UserError
from tuneoff.methods import LoRA, SoftPrompt, bounded, build
from tuneoff.methods.hyperparameters import Bounds


@pytest.mark.parametrize(
    ("bounds", "number_type", "words"),
    [
        (Bounds(above=0, at_most=100), float, "above 0 and at most 100"),
        (Bounds(at_least=0, at_most=100), float, "0 to 100"),
        (Bounds(at_least=0, below=1), float, "0 to below 1"),
        (Bounds(at_least=1, at_most=65536), int, "a whole number from 1 to 65536"),
        (Bounds(at_least=0), float, "at least 0"),
        (Bounds(below=0), int, "a whole number below 0"),
        (Bounds(), float, "a finite number"),
        (Bounds(at_least=0, description="0 (none) or more"), int, "0 (none) or more"),
    ],
)
def test_bounds_are_described(bounds: Bounds, number_type: type, words: str) -> None:
    assert bounds.describe(number_type) == words


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        (Bounds(above=0, at_most=2), (1e-300, 2), (0, 2.1)),
        (Bounds(at_least=0, below=1), (0, 0.99), (-1e-300, 1)),
        (Bounds(), (-1e9, 1e9), (float("inf"), float("nan"))),
    ],
)
def test_bounds_contain(bounds: Bounds, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    assert all(bounds.contain(value) for value in inside)
    assert not any(bounds.contain(value) for value in outside)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("r", 0, "lora.r = 0: must be a whole number from 1 to 65536"),
        ("r", 1.5, "lora.r = 1.5: expected a whole number"),
        ("r", True, "lora.r = True: expected a whole number"),
        ("r", "many", "lora.r = 'many': expected a whole number"),
        ("learning_rate", 0, "lora.learning_rate = 0: must be above 0 and at most 100"),
        ("learning_rate", None, "lora.learning_rate = None: expected a number"),
        ("learning_rate", float("nan"), "lora.learning_rate = nan: must be above 0 and at most 100"),
        ("weight_decay", -1, "lora.weight_decay = -1: must be 0 to 100"),
        ("lora_dropout", 1, "lora.lora_dropout = 1: must be 0 to below 1"),
        ("target_modules", [], 'lora.target_modules = []: expected one or more names, such as ["q_proj", "v_proj"]'),
        ("target_modules", [1], 'lora.target_modules = [1]: expected one or more names, such as ["q_proj", "v_proj"]'),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        build("lora", {key: value})
    assert str(caught.value) == message


def test_wrong_values_of_other_types_are_refused() -> None:
    with pytest.raises(UserError, match=r"soft_prompt.keep_instruction = 'no': expected true or false"):
        build("soft_prompt", {"keep_instruction": "no"})
    with pytest.raises(UserError, match=r"soft_prompt.residual_bottleneck = -1: must be 0 \(no network\)"):
        build("soft_prompt", {"residual_bottleneck": -1})
    with pytest.raises(UserError, match=r"soft_prompt.initial_prompt = 3: expected a text"):
        build("soft_prompt", {"initial_prompt": 3})


def test_a_constructor_checks_and_converts_too() -> None:
    with pytest.raises(UserError, match=r"lora.r = 0: must be"):
        LoRA(r=0)
    method = LoRA(learning_rate=1, r=8, target_modules=["q_proj"])  # type: ignore[arg-type]
    assert isinstance(method.learning_rate, float)
    assert method.target_modules == ("q_proj",)
    assert hash(method) == hash(build("lora", {"r": 8.0, "learning_rate": 1.0, "target_modules": "q_proj"}))
    assert method.changed_hyperparameters == {"r": 8, "target_modules": ("q_proj",), "learning_rate": 1.0}
    assert SoftPrompt(keep_instruction=False).changed_hyperparameters == {"keep_instruction": False}


def test_a_bounded_field_has_its_default() -> None:
    @dataclass(frozen=True)
    class Some:
        count: int = bounded(3, at_least=1)

    assert Some().count == 3


def test_methods_are_constructed_without_torch() -> None:
    code = (
        "import sys; from tuneoff import methods; [method() for method in methods.METHODS.values()]; "
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
