"""A command line in pieces: each flag with its value, and each word that belongs to no flag."""

import shlex
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneoff.cli.flags import normalized
from tuneoff.errors import UserError
from tuneoff.text import join_words

SWITCH_VALUES = {"true": True, "false": False}  # transformers' programs take one after a switch


@dataclass(frozen=True)
class Piece:
    """One flag with its value, or one word that belongs to no flag: its `name` is then empty."""

    words: tuple[str, ...]  # what click gets
    typed: str  # for messages
    name: str = ""  # the main spelling of the flag, with its dashes
    value: str | None = None

    @property
    def flag(self) -> str:
        """The flag as typed."""
        return self.typed.partition(" ")[0].partition("=")[0]


def word(text: str) -> Piece:
    """A piece that belongs to no flag."""
    return Piece((text,), text, value=text)


def flag(name: str, value: str, typed: str = "") -> Piece:
    """A flag with its value; `typed` is what messages quote."""
    return Piece((name, value), typed or f"{name} {value}", name, value)


def split(arguments: Sequence[str], parameters: Iterable[Any], also: Mapping[str, bool]) -> list[Piece]:
    """The pieces of a command line. `parameters` are click's; `also` has further flags, and whether they take a value.

    Raises `UserError` for a flag without its value, and for a switch with another value than true or false. What
    follows `--` is not looked at.
    """
    takes_value = {
        option: not parameter.is_flag
        for parameter in parameters
        if parameter.param_type_name == "option"
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    known = {**also, **takes_value}
    opposites = {
        name: other
        for parameter in parameters
        if parameter.secondary_opts
        for name, other in (
            (parameter.opts[0], parameter.secondary_opts[0]),
            (parameter.secondary_opts[0], parameter.opts[0]),
        )
    }
    pieces: list[Piece] = []
    rest = list(arguments)
    while rest:
        text = rest.pop(0)
        if text == "--":
            return [*pieces, *(Piece((one,), one) for one in (text, *rest))]
        if not text.startswith("-") or text == "-":
            pieces.append(word(text))
            continue
        typed, equals, value = text.partition("=")
        name = main_name(typed)
        if known.get(name, False) and not equals:
            if not rest or main_name(rest[0].partition("=")[0]) in known:
                before = f" before {rest[0]}" if rest else ""
                raise UserError(f"{typed}: its value is missing{before}; write {typed} VALUE")
            value = rest.pop(0)
            pieces.append(Piece((text, value), f"{typed} {shlex.quote(value)}", name, value))
        elif name in known and not known[name]:
            if not equals and rest and rest[0].lower() in SWITCH_VALUES:
                equals, value = "=", rest.pop(0)
                text = f"{typed} {value}"
            if equals and value.lower() not in SWITCH_VALUES:
                raise UserError(f"{typed}={value}: a switch has no value; write {typed}, or leave it out")
            if not equals or SWITCH_VALUES[value.lower()]:
                pieces.append(Piece((typed,), typed, name))
            elif name in opposites:
                pieces.append(Piece((opposites[name],), text, opposites[name]))
        else:
            pieces.append(Piece((text,), text, name, value if equals else None))
    return pieces


def main_name(typed: str) -> str:
    """The main spelling of a flag as typed, with its dashes; other words stay."""
    return f"--{normalized(typed.removeprefix('--'))}" if typed.startswith("--") else typed


def refuse_repeats(pieces: Iterable[Piece], parameters: Iterable[Any], same: Mapping[str, str], method: str) -> None:
    """Raise `UserError` if something that has one value is given two different ones.

    Of a flag such as `--set NAME=VALUE` each NAME has one value. `same`: flags that set the same as a NAME of `--set`;
    `method.` in front of a NAME means nothing.
    """
    by_option = {option: one for one in parameters for option in (*one.opts, *one.secondary_opts)}
    first: dict[Hashable, Piece] = {}
    for piece in pieces:
        parameter = by_option.get(piece.name)
        if parameter is None or (piece.value is None and not parameter.secondary_opts):
            continue
        setting = same.get(piece.name)
        if setting is None and parameter.multiple:
            if "=" not in (parameter.metavar or ""):
                continue
            setting = (piece.value or "").partition("=")[0].strip().removeprefix(f"{method}.").replace("-", "_")
        key = parameter.name if setting is None else ("--set" if piece.name in same else piece.name, setting)
        other = first.setdefault(key, piece)
        if _value(other) != _value(piece):
            raise UserError(
                f"given twice, as {other.typed} and as {piece.typed}: keep one of them, for example {piece.typed}"
            )


def _value(piece: Piece) -> str:
    if piece.value is None:
        return piece.name
    return piece.value.partition("=")[2].strip() if piece.name == "--set" else piece.value


def refuse_extra_words(pieces: Sequence[Piece], parameters: Iterable[Any], command: str) -> None:
    """Raise `UserError` if there are more words that belong to no flag than the command has arguments."""
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    if any(one.nargs != 1 for one in arguments):
        return
    words = [index for index, piece in enumerate(pieces) if not piece.name]
    if len(words) <= len(arguments) or any(pieces[index].typed == "--" for index in words):
        return
    before = next((index for index in words if index and pieces[index - 1].name and pieces[index - 1].value), None)
    if before is not None:
        raise needs_quotes(pieces, before)
    names = join_words([str(one.metavar or one.name).strip("[]") for one in arguments]) or "nothing"
    raise UserError(
        f"{pieces[words[len(arguments)]].typed}: one word too many, `tuneoff {command}` takes {names} and flags; see "
        f"`tuneoff {command} --help`"
    )


def needs_quotes(pieces: Sequence[Piece], index: int) -> UserError:
    """The words from `index` on follow the value of a flag, but do not belong to it."""
    before = pieces[index - 1]
    words: list[str] = []
    for piece in pieces[index:]:
        if piece.name:
            break
        words.append(piece.typed)
    whole = shlex.quote(" ".join([before.value or "", *words]))
    return UserError(
        f"{words[0]}: does not belong to a flag; a value that contains spaces needs quotes: {before.flag} {whole}"
    )
