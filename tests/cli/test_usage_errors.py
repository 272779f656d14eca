"""A wrong command line: one sentence that says what to type instead."""

import pytest

from tuneoff.cli import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "--epoch", "2"], ["--epoch;", "did you mean --epochs?"]),
        (["compare", "--num_train_epoch", "2"], ["did you mean --num-train-epochs?"]),
        (["compare", "--learning_rate", "1e-3"], ["one rate for all", "--set lora.learning_rate=1e-3"]),
        (["compare", "--lora-alpha", "8"], ["--set lora.lora_alpha=VALUE"]),
        (["compare", "--max_source_length", "8"], ["--max-length"]),
        (["compare", "--xyzzy"], ["no flag --xyzzy", "tuneoff compare --help"]),
        (["compar"], ["compar", "compare"]),
        (["compare", "--max-length", "many"], ["--max-length", "integer"]),
        (["compare", "--epochs"], ["--epochs"]),
        (["train"], ["METHOD"]),
        (["train", "lora", "--initial_prompt", "x"], ["lora has no such hyper-parameter", "soft_prompt"]),
        (["train", "peft:LOHA", "--lora_alpha", "8"], ["peft:LOHA has no such hyper-parameter", "lora"]),
        (["train", "lora", "--lora_alfa", "8"], ["did you mean --lora-alpha?"]),
        (["train", "--lora_alpha", "8"], ["tuneoff train lora --lora-alpha VALUE"]),
        (["report", "--lora_alpha", "8"], ["tuneoff report --help"]),
        (["compare", "--warmup_steps", "100"], ["--warmup 100", "fraction of all optimiser steps", "--warmup 0.05"]),
        (["compare", "--warmup", "nan"], ["fraction of all optimiser steps"]),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert err.startswith("tuneoff: ")
    assert all(word in err for word in words), err
