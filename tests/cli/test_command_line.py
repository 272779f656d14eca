"""Command lines as people type them."""

from typing import Any

import pytest
import typer

from tuneoff.cli.app import app
from tuneoff.cli.command_line import settle, typed_method
from tuneoff.errors import UserError

COMMANDS: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("typed", "settled"),
    [
        ("compare emails.csv", "compare --train-file emails.csv"),
        ("compare --train-file a.csv b.csv --epochs 2", "compare --train-file a.csv --train-file b.csv --epochs 2"),
        ("compare --train-file a.csv --train-file b.csv", "compare --train-file a.csv --train-file b.csv"),
        ("compare --methods lora full --lora_r 8", "compare --methods lora --methods full --set lora.r=8"),
        ("compare s.toml --lora.r=8", "compare s.toml --set lora.r=8"),
        ("compare --quiet true --dry-run", "compare --quiet --dry-run"),
        ("compare --do_train --logging_steps 10 --epochs 2", "compare --epochs 2"),
        ("compare --do_train True s.toml --do_eval=False", "compare s.toml"),
        ("train lora --r=4 --lora_alpha 8", "train lora --set r=4 --set lora_alpha=8"),
        ("train lora emails.csv --lora_r 4 --lr 1", "train lora --train-file emails.csv --set r=4 --lr 1"),
        ("train peft:LOHA --r 4", "train peft:LOHA --set r=4"),
        ("train --epochs 2 lora", "train --epochs 2 lora"),
        ("judge a b --metric rougeL", "judge a b --metric rougeL"),
        ("summarize runs/a texts.csv", "summarize runs/a texts.csv"),
        ("nothing --x", "nothing --x"),
        ("", ""),
    ],
)
def test_habits(typed: str, settled: str) -> None:
    assert settle(typed.split(), COMMANDS) == settled.split()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("compare --epochs 1 --num_train_epochs 2", "given twice, as --epochs 1 and as --num_train_epochs 2"),
        ("compare --lora_r 4 --set lora.r=8", "given twice, as --lora_r 4 and as --set lora.r=8"),
        ("train lora --r", "--r: its value is missing"),
        ("train lora --r --epochs 2", "--r: its value is missing before --epochs"),
        ("compare --train-file train.csv test.csv", "its name says test"),
        ("compare --instruction Write headlines", "needs quotes: --instruction 'Write headlines'"),
        ("judge a --metric rouge1 --metric rougeL", "keep one"),
        ("compare a.toml b.toml", "b.toml: one word too many"),
    ],
)
def test_what_cannot_be_meant(typed: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settle(typed.split(), COMMANDS)


def test_flags_without_effect_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    settle(["compare", "--do_train", "--save_steps", "50"], COMMANDS)
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines()[0].startswith("note: --do_train has no effect: ")
    assert err.splitlines()[1].startswith("note: --save_steps 50 has no effect: ")


def test_the_method_of_train() -> None:
    assert typed_method(["train", "--epochs", "2", "soft-prompt"]) == "soft_prompt"
    assert typed_method(["train", "lroa"]) is None
    assert typed_method(["compare", "lora"]) is None
