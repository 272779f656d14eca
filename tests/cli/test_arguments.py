"""Pieces of a command line: nothing that was typed is lost."""

from types import SimpleNamespace
from typing import Any

import pytest

from tuneoff.cli.arguments import Piece, flag, main_name, refuse_extra_words, refuse_repeats, split, word
from tuneoff.errors import UserError


def option(name: str, *, switch: bool = False, multiple: bool = False, metavar: str = "X", no: str = "") -> Any:
    return SimpleNamespace(
        name=name.removeprefix("--"),
        opts=[name],
        secondary_opts=[no] if no else [],
        is_flag=switch,
        multiple=multiple,
        metavar=metavar,
        nargs=1,
        param_type_name="option",
    )


def argument(name: str, nargs: int = 1) -> Any:
    return SimpleNamespace(
        name=name, opts=[name], secondary_opts=[], metavar=name, nargs=nargs, param_type_name="argument"
    )


OPTIONS = [
    option("--epochs"),
    option("--quiet", switch=True),
    option("--stemmer", switch=True, no="--no-stemmer"),
    option("--model", multiple=True),
    option("--set", multiple=True, metavar="NAME=VALUE"),
    option("--learning-rate"),
]


def words_of(arguments: list[str], also: dict[str, bool] | None = None) -> list[str]:
    return [one for piece in split(arguments, OPTIONS, also or {}) for one in piece.words]


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.toml", "--epochs", "2", "--quiet", "b"],
        ["--epochs=2", "-", "--unknown", "x", "--unknown=y"],
        ["--epochs", "-1"],
        ["--epochs", ""],
        ["--set", "a=--quiet"],
        ["--", "--epochs", "--quiet", "true"],
        ["--num_train_epochs", "2"],
        ["-h"],
    ],
)
def test_what_is_right_stays_as_it_is(arguments: list[str]) -> None:
    assert words_of(arguments) == arguments


def test_names_are_in_the_main_spelling_and_messages_in_the_typed_one() -> None:
    [piece] = split(["--num_train_epochs=2"], OPTIONS, {})
    assert (piece.name, piece.value, piece.typed, piece.flag) == (
        "--epochs",
        "2",
        "--num_train_epochs=2",
        "--num_train_epochs",
    )
    assert main_name("--num_train_epochs") == "--epochs"
    assert main_name("-x") == "-x"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["--quiet", "true"], ["--quiet"]),
        (["--quiet", "False", "b"], ["b"]),
        (["--quiet=true"], ["--quiet"]),
        (["--quiet=false"], []),
        (["--no-stemmer", "TRUE"], ["--no-stemmer"]),
        (["--stemmer", "false"], ["--no-stemmer"]),
        (["--no-stemmer=false"], ["--stemmer"]),
    ],
)
def test_switches_with_true_and_false(typed: list[str], kept: list[str]) -> None:
    assert words_of(typed) == kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs"], "--epochs: its value is missing; write --epochs VALUE"),
        (["--epochs", "--quiet"], "--epochs: its value is missing before --quiet"),
        (["--model", "--epochs=2"], "--model: its value is missing before --epochs=2"),
        (["--quiet=often"], "--quiet=often: a switch has no value"),
        (["--idle"], "--idle: its value is missing"),
    ],
)
def test_values_that_are_missing_or_too_many(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split(arguments, OPTIONS, {"--idle": True})


def repeats(*arguments: str) -> None:
    refuse_repeats(split(arguments, OPTIONS, {}), OPTIONS, {"--learning-rate": "learning_rate"}, "lora")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epochs", "1", "--epochs", "2"],
        ["--epochs=1", "--num_train_epochs", "2"],
        ["--set", "r=1", "--set", "r=2"],
        ["--set", "r=1", "--set", "lora.r=2"],
        ["--set", "learning_rate=1", "--learning-rate", "2"],
        ["--stemmer", "--no-stemmer"],
        ["--stemmer", "--stemmer=false"],
    ],
)
def test_two_values_for_one_thing(arguments: list[str]) -> None:
    with pytest.raises(UserError, match=r"given twice, as .* and as .*: keep one of them") as raised:
        repeats(*arguments)
    assert all(piece.typed in str(raised.value) for piece in split(arguments, OPTIONS, {}))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epochs", "1", "--epochs", "1"],
        ["--epochs", "1", "--num-train-epochs=1"],
        ["--model", "a", "--model", "b"],
        ["--set", "r=1", "--set", "alpha=2"],
        ["--set", "dora.r=1", "--set", "r=2"],
        ["--quiet", "--quiet"],
        ["--stemmer", "--stemmer"],
    ],
)
def test_what_may_be_repeated(arguments: list[str]) -> None:
    repeats(*arguments)


def extra(pieces: list[Piece], *arguments: Any) -> None:
    refuse_extra_words(pieces, [*OPTIONS, *arguments], "summarize")


def test_words_that_belong_to_nothing() -> None:
    folder, file = argument("DIR"), argument("[FILE]")
    extra([word("a"), word("b")], folder, file)
    extra([word("a"), word("b"), word("c")], argument("DIR...", nargs=-1))
    with pytest.raises(UserError, match=r"c: one word too many, `tuneoff summarize` takes DIR and FILE and flags"):
        extra([word("a"), word("b"), word("c")], folder, file)
    with pytest.raises(UserError, match=r"b: does not belong to a flag; .* needs quotes: --epochs '2 b c'"):
        extra([word("a"), flag("--epochs", "2"), word("b"), word("c")], folder)
