"""Hyper-parameters as flags."""

import pytest

from tuneoff.cli.arguments import flag, word
from tuneoff.cli.method_flags import as_settings, method_flags, study_flags
from tuneoff.methods import METHODS, defaults
from tuneoff.methods.rows import OTHER_NAMES


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_all_its_hyperparameters_as_flags(method: str) -> None:
    flags = method_flags(method)
    assert set(flags.values()) == set(defaults(method)) - {"learning_rate"}
    assert not {"--set", "--lr", "--epochs"} & set(flags)


def test_other_names_belong_to_some_method() -> None:
    known = {name for method in METHODS for name in defaults(method)}
    assert set(OTHER_NAMES.values()) <= known
    assert not set(OTHER_NAMES) & known


def test_names_of_peft() -> None:
    flags = method_flags("lora")
    assert flags["--lora-r"] == flags["--r"] == flags["--rank"] == "r"
    assert flags["--lora-alpha"] == "lora_alpha"
    assert "--lora-r" not in method_flags("full")


def test_compare_takes_hyperparameters_that_name_their_method() -> None:
    typed = ["--lora_r", "8", "--lora-alpha=4", "--soft-prompt.learning_rate", "1", "--r", "x.y", "--no.r", "--lora_x"]
    assert study_flags(typed) == {
        "--lora-r": "lora.r",
        "--lora-alpha": "lora.lora_alpha",
        "--soft-prompt.learning-rate": "soft_prompt.learning_rate",
    }


def test_they_become_settings_that_remember_what_was_typed() -> None:
    [first, second] = as_settings([flag("--lora-r", "8", "--lora_r 8"), word("a")], {"--lora-r": "lora.r"})
    assert first.words == ("--set", "lora.r=8")
    assert first.typed == "--lora_r 8"
    assert second == word("a")
