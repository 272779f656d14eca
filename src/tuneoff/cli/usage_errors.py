"""Wrong flags and commands in one sentence."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from tuneoff.cli.arguments import main_name
from tuneoff.cli.flags import ALIASES
from tuneoff.cli.foreign_flags import STUDY_COMMANDS, WITHOUT_EFFECT, answer
from tuneoff.text import join_words

# A word of the parser's message -> what it expects.
KINDS = {"integer": "a whole number", "number": "a number", "float": "a number", "path": "a path"}


def usage_sentence(error: Any, arguments: Sequence[str], method: str | None = None) -> str:
    """What is wrong with a command line, and the way out. `error` is a usage error of click, `method` the one after
    `train`."""
    context = error.ctx
    kind = type(error).__name__
    option = getattr(error, "option_name", None)
    if context is None:
        return f"a wrong command line ({error.format_message()}); see `tuneoff --help`"
    command: str = context.info_name
    see = f"see `{context.command_path} --help`"
    if kind == "NoSuchOption" and option is not None:
        if hasattr(context.command, "commands"):
            return f"no flag {option}: flags come after the command, such as `tuneoff compare --epochs 2`; {see}"
        typed = next(
            (one for one in (word.partition("=")[0] for word in arguments) if main_name(one) == option), option
        )
        return _unknown_flag(typed, command, context.command.params, method)
    if kind == "BadOptionUsage" and option is not None:
        return f"{option}: its value is missing, or it takes none; {see}"
    parameter = getattr(error, "param", None)
    if kind == "MissingParameter" and parameter is not None:
        return f"{parameter.metavar or parameter.opts[0]} is missing: {_usage(context)}; {see}"
    if parameter is not None:
        message = str(error.message).lower()
        wanted = next((kind for key, kind in KINDS.items() if key in message), "another value")
        typed = _typed_value(parameter, arguments)
        return f"{' '.join([parameter.opts[0], *typed])}: {wanted} was expected; {see}"
    if hasattr(context.command, "commands"):
        return _unknown_command(arguments, context.command.commands)
    return f"a wrong command line ({error.format_message().rstrip('.')}); {see}"


def _usage(context: Any) -> str:
    words = [one.metavar or one.name for one in context.command.params if one.param_type_name == "argument"]
    return " ".join([context.command_path, *words])


def _typed_value(parameter: Any, arguments: Sequence[str]) -> list[str]:
    """The last value that was typed for a flag, if it can be found."""
    found: list[str] = []
    for typed, following in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, equals, value = typed.partition("=")
        if main_name(flag) in parameter.opts:
            found = [value if equals else following]
    return found


def _unknown_command(arguments: Sequence[str], commands: Iterable[str]) -> str:
    typed = next((one for one in arguments if not one.startswith("-")), "")
    known = list(commands)
    close = get_close_matches(typed.replace("_", "-"), known, n=1, cutoff=0.6)
    if close:
        return f"{typed}: no such command; did you mean `tuneoff {close[0]}`?"
    from tuneoff.cli.lists import is_data_file

    if typed.endswith(".toml") or is_data_file(typed):
        return f"{typed}: a file, where a command was expected; write tuneoff compare {typed}"
    return f"{typed}: no such command; there are {join_words(known)}"


def _unknown_flag(typed: str, command: str, parameters: Iterable[Any], method: str | None) -> str:
    option = main_name(typed)
    said = answer(command, option)
    if said is not None:
        return f"no flag {typed}: {said}"
    from tuneoff.cli.method_flags import method_flags
    from tuneoff.methods import METHODS

    owners = {owner: flags[option] for owner in METHODS if option in (flags := method_flags(owner))}
    if owners:
        owner, name = next(iter(owners.items()))
        if method is not None:
            return f"no flag {typed}: {method} has no such hyper-parameter (these methods have it: {', '.join(owners)})"
        if command == "train":
            flag = f"--{name.replace('_', '-')}"
            return f"no flag {typed}: it belongs to a method; write `tuneoff train {owner} {flag} VALUE`"
        if command == "compare":
            return f"no flag {typed}: it belongs to a method; write --set {owner}.{name}=VALUE"
    known = [flag for parameter in parameters for flag in parameter.opts if flag.startswith("--")]
    if not option.startswith("--"):
        short = [flag for flag in known if flag[2] == option[1:2]]
        return f"no flag {typed}: flags are written out" + (f", such as {short[0]}" if short else "")
    names = {flag: flag for flag in known}
    names |= {f"--{alias}": f"--{alias}" for alias, target in ALIASES.items() if f"--{target}" in known}
    names |= {flag: flag for flag in (method_flags(method) if method is not None else {})}
    close = get_close_matches(option, names, n=1, cutoff=0.6)
    if close:
        return f"no flag {typed}; did you mean {close[0]}?"
    if command in STUDY_COMMANDS and (other := get_close_matches(option, WITHOUT_EFFECT, n=1, cutoff=0.8)):
        return f"no flag {typed}; {other[0]} would have no effect here, so leave it out"
    return f"no flag {typed}; see `tuneoff {command} --help`"
