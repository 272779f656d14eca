"""Wrong flags and commands in one sentence."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from tuneoff.cli.flags import ALIASES, INSTEAD


def usage_sentence(error: Any, method: str | None = None) -> str:
    """What is wrong with a command line, and the way out. `error` is a usage error of click, `method` the one after
    `train`."""
    context = error.ctx
    option = getattr(error, "option_name", None)
    if option is not None and type(error).__name__ == "NoSuchOption" and context is not None:
        return _unknown_flag(option.replace("_", "-"), context.info_name, context.command.params, method)
    message: str = error.format_message().rstrip(".")
    return message if context is None or message.endswith("?") else f"{message}; see `{context.command_path} --help`"


def _unknown_flag(option: str, command: str, parameters: Iterable[Any], method: str | None) -> str:
    if option in INSTEAD:
        return f"no flag {option}: {INSTEAD[option]}"
    from tuneoff.methods import METHODS, defaults

    name = option.lstrip("-").replace("-", "_")
    owners = [owner for owner in METHODS if name in defaults(owner)]
    if owners and method is not None:
        return f"no flag {option}: {method} has no such hyper-parameter (these methods have it: {', '.join(owners)})"
    if owners and command == "train":
        return f"no flag {option}: it belongs to a method; write `tuneoff train {owners[0]} {option} VALUE`"
    if owners and command == "compare":
        return f"no flag {option}: it belongs to a method; write --set {owners[0]}.{name}=VALUE"
    known = [flag for parameter in parameters for flag in parameter.opts if flag.startswith("--")]
    known += [f"--{own.replace('_', '-')}" for own in defaults(method)] if method is not None else []
    close = get_close_matches(option, [*known, *(f"--{alias}" for alias in ALIASES)], n=1, cutoff=0.6)
    if close:
        return f"no flag {option}; did you mean {close[0]}?"
    return f"no flag {option}; see `tuneoff {command} --help`"
