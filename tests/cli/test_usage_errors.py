"""A wrong command line: one sentence that says what to type instead."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from tuneoff.cli import main
from tuneoff.cli.app import app
from tuneoff.cli.flags import ALIASES
from tuneoff.cli.foreign_flags import IN_COMMAND, INSTEAD, STUDY_COMMANDS, WITHOUT_EFFECT
from tuneoff.cli.method_flags import method_flags
from tuneoff.cli.usage_errors import usage_sentence
from tuneoff.methods import METHODS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "--epoch", "2"], ["--epoch;", "did you mean --epochs?"]),
        (["compare", "--num_train_epoch", "2"], ["did you mean --num-train-epochs?"]),
        (["compare", "--learning_rate", "1e-3"], ["one rate for all", "--set lora.learning_rate=1e-3"]),
        (
            ["compare", "--num_virtual_tokens", "8"],
            ["--num_virtual_tokens", "--set soft_prompt.num_virtual_tokens=VALUE"],
        ),
        (["compare", "--max_source_length", "8"], ["--max-length"]),
        (["compare", "--xyzzy"], ["no flag --xyzzy", "tuneoff compare --help"]),
        (["compar"], ["compar", "compare"]),
        (["compare", "--max-length", "many"], ["--max-length many: a whole number was expected"]),
        (["compare", "--epochs=1,5"], ["--epochs 1,5: a number was expected"]),
        (["compare", "--max_length", "2.5", "--epochs", "1"], ["--max-length 2.5: a whole number was expected"]),
        (["compare", "--epochs"], ["--epochs"]),
        (["train"], ["METHOD"]),
        (["train", "lora", "--initial_prompt", "x"], ["lora has no such hyper-parameter", "soft_prompt"]),
        (["train", "peft:LOHA", "--lora_alpha", "8"], ["peft:LOHA has no such hyper-parameter", "lora"]),
        (["train", "lora", "--lora_alfa", "8"], ["did you mean --lora-alpha?"]),
        (["train", "--lora_alpha", "8"], ["tuneoff train lora --lora-alpha VALUE"]),
        (["report", "--lora_alpha", "8"], ["tuneoff report --help"]),
        (["compare", "--warmup_steps", "100"], ["--warmup 100", "fraction of all optimiser steps", "--warmup 0.05"]),
        (["compare", "--max_steps", "-1"], ["--max-steps -1: leave it out for no limit"]),
        (["compare", "--warmup", "nan"], ["fraction of all optimiser steps"]),
        (["compare", "--lr", "1e-3"], ["no flag --lr", "one rate for all", "--set lora.learning_rate=1e-3"]),
        (["compare", "--temperature", "1"], ["nothing is sampled", "--num-beams N"]),
        (["compare", "--device=cpu"], ["CUDA_VISIBLE_DEVICES"]),
        (["compare", "--load_in_4bit"], ["never in 4 or 8 bits"]),
        (["compare", "--push_to_hub"], ["uploads nothing"]),
        (["compare", "--use_peft"], ["tuneoff train lora"]),
        (["compare", "-o", "x"], ["no flag -o", "--output"]),
        (["compare", "a.toml", "b.toml"], ["b.toml: one word too many", "STUDY.toml"]),
        (["train", "emails.csv"], ["tuneoff train lora --train-file emails.csv"]),
        (["train", "lroa", "--r", "4"], ["did you mean lora?"]),
        (["train", "lora", "--lora_r", "4", "--r", "8"], ["--lora_r 4", "--r 8", "keep one"]),
        (["train", "lora", "--lr", "1", "--learning_rate", "2"], ["--lr 1", "--learning_rate 2", "keep one"]),
        (["train", "lora", "--budget", "4m"], ["only `tuneoff compare`"]),
        (["summarize", "x", "--temperature", "1"], ["as in the study"]),
        (["summarize"], ["DIR is missing: tuneoff summarize DIR"]),
        (["report", "x", "--output", "y"], ["report.html"]),
        (["judge", "x", "--output", "y"], ["`tuneoff judge DIR > FILE`"]),
        (["judge", "x", "--margin", "wide"], ["--margin wide: a number was expected"]),
        (["emails.csv"], ["tuneoff compare emails.csv"]),
        (["import-pef"], ["did you mean `tuneoff import-peft`?"]),
        (["xyzzy"], ["no such command; there are compare, check, init, train"]),
        (["--epochs", "2"], ["flags come after the command"]),
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


GROUP: Any = typer.main.get_command(app)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
MISTAKES = (
    *(name for name in (*INSTEAD, *WITHOUT_EFFECT)),
    *(f"--{alias}" for alias in ALIASES),
    *(
        "--outpt",
        "--outputs",
        "--seedz",
        "--metrics",
        "--methodz",
        "--trial",
        "--fieldz",
        "--out-dir",
        "--jsn",
        "--lora",
    ),
    *("--learning-rat", "--tain-file", "--moddel", "--budgets", "--reprt-to", "--num-virtual-token", "--lora-alfa"),
)


class NoSuchOption(SimpleNamespace):
    """What click raises for a flag that it does not know."""


def has(command: str, flag: str, method: str | None) -> bool:
    known = {name for one in GROUP.commands[command].params for name in (*one.opts, *one.secondary_opts)}
    return flag in known or (method is not None and flag in method_flags(method))


@pytest.mark.parametrize("command", GROUP.commands)
def test_no_flag_is_suggested_that_the_command_does_not_have(command: str) -> None:
    context = SimpleNamespace(info_name=command, command=GROUP.commands[command], command_path=f"tuneoff {command}")
    for method in (None, "lora", "zero_shot") if command == "train" else (None,):
        for mistake in (*MISTAKES, *IN_COMMAND.get(command, {})):
            name = f"--{ALIASES.get(mistake[2:], mistake[2:])}"
            if has(command, name, method) or (name in WITHOUT_EFFECT and command in STUDY_COMMANDS):
                continue
            said = usage_sentence(NoSuchOption(ctx=context, option_name=name), [command, mistake, "x"], method)
            assert said.startswith(f"no flag {mistake}"), said
            rest = said.removeprefix(f"no flag {mistake}").replace(f"`tuneoff {command} --help`", "")
            for quoted in re.findall(r"`tuneoff ([^`]*)`", rest):
                other, *words = quoted.split()
                named = next((word for word in words if word in METHODS), None)
                assert other in GROUP.commands, said
                assert all(has(other, word, named) for word in words if word.startswith("--")), said
            for flag in FLAG.findall(re.sub(r"`tuneoff [^`]*`", "", rest)):
                alias = f"--{ALIASES.get(flag[2:], flag[2:])}"
                assert has(command, flag, method) or has(command, alias, method), said
