"""A command line as people type it, made into the one that the commands take."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tuneoff.cli.arguments import Piece, refuse_extra_words, refuse_repeats, split
from tuneoff.cli.flags import normalized
from tuneoff.cli.foreign_flags import STUDY_COMMANDS, WITHOUT_EFFECT
from tuneoff.cli.lists import gather, is_data_file
from tuneoff.cli.output import say
from tuneoff.errors import UserError
from tuneoff.spec.row_names import MARK

HELP = {"-h", "--help"}


def settle(arguments: Sequence[str], commands: Mapping[str, Any]) -> list[str]:
    """`arguments` in the form that click takes, with one spelling for each flag and no value lost.

    `commands` are click's, by name. Says on stderr which flags have no effect here. Raises `UserError` for what is
    given twice, lacks a value or belongs to nothing.
    """
    command = commands.get(normalized(arguments[0])) if arguments else None
    if command is None or HELP & set(arguments):
        return list(arguments)
    name, rest = normalized(arguments[0]), arguments[1:]
    pieces = pieces_of(name, rest, command.params)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    if all(piece.name in known for piece in pieces if piece.name):  # click reports an unknown flag
        if name in STUDY_COMMANDS:
            pieces = gather(pieces, _method_names)
        method = typed_method(arguments) or ""
        refuse_repeats(pieces, command.params, {"--learning-rate": "learning_rate"} if method else {}, method)
        refuse_extra_words(pieces, command.params, name)
    return [name, *(word for piece in pieces for word in piece.words)]


def pieces_of(command: str, arguments: Sequence[str], parameters: Iterable[Any]) -> list[Piece]:
    """The pieces of a command's arguments, with hyper-parameters as `--set` and without flags that have no effect."""
    if command not in STUDY_COMMANDS:
        return split(arguments, parameters, {})
    from tuneoff.cli import method_flags

    method = typed_method([command, *arguments])
    if command == "train":
        if method is None:
            _check_method(arguments)
        known = method_flags.method_flags(method) if method is not None else {}
    else:
        known = method_flags.study_flags(arguments)
    idle = {name: flag.takes_value for name, flag in WITHOUT_EFFECT.items() if name not in known}
    pieces = split(arguments, parameters, {**dict.fromkeys(known, True), **idle})
    for piece in pieces:
        if piece.name in idle:
            say(f"note: {piece.typed} has no effect: {WITHOUT_EFFECT[piece.name].note}")
    return method_flags.as_settings([piece for piece in pieces if piece.name not in idle], known)


def typed_method(arguments: Sequence[str]) -> str | None:
    """The method of `tuneoff train METHOD`; None if none is named. An unknown type after `peft:` counts as one."""
    if not arguments or arguments[0] != "train":
        return None
    from tuneoff.methods import METHODS, peft_type

    named = (argument.replace("-", "_") for argument in arguments[1:])
    return next((name for name in named if name in METHODS or name.startswith(peft_type.PREFIX)), None)


def _method_names() -> Collection[str]:
    from tuneoff.methods import METHODS

    return METHODS


def _check_method(arguments: Sequence[str]) -> None:
    """Raise `UserError` if the first argument of `train` stands where a method is expected."""
    if not arguments or arguments[0].startswith("-"):
        return
    if is_data_file(arguments[0]):
        raise UserError(f"{arguments[0]}: the method comes first: tuneoff train lora --train-file {arguments[0]}")
    from tuneoff.methods import method_class

    if MARK in arguments[0]:
        method, *settings = arguments[0].split(MARK)
        typed = " ".join(f"--{setting.replace('=', ' ', 1)}" for setting in settings)
        raise UserError(f"{arguments[0]}: here the settings of a method are flags: tuneoff train {method} {typed}")
    method_class(arguments[0].replace("-", "_"))
