"""Hyper-parameters typed as flags: `--lora_alpha 32` in `tuneoff train lora`, `--lora.r 8` in `tuneoff compare`."""

from collections.abc import Iterable
from dataclasses import replace

from tuneoff import methods
from tuneoff.cli.arguments import Piece
from tuneoff.methods.peft_type import PREFIX
from tuneoff.methods.rows import OTHER_NAMES

OWN_FLAG = "learning_rate"  # `tuneoff train` has a flag of its own for it


def method_flags(method: str) -> dict[str, str]:
    """Flag -> hyper-parameter: what `tuneoff train METHOD` takes besides its own flags."""
    known = {name for name in methods.defaults(method) if name != OWN_FLAG}
    return {f"--{name.replace('_', '-')}": name for name in sorted(known)} | {
        f"--{other.replace('_', '-')}": name for other, name in OTHER_NAMES.items() if name in known
    }


def study_flags(arguments: Iterable[str]) -> dict[str, str]:
    """Flag -> METHOD.NAME, for the hyper-parameters among the `arguments` of `tuneoff compare` that name a method.

    `--lora.r` does so with a dot, and so do PEFT's names that begin with `lora_`.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        name = flag.removeprefix("--").replace("-", "_")
        method, dot, key = name.partition(".")
        if not flag.startswith("--"):
            continue
        if dot:
            if method in methods.METHODS or method.startswith(PREFIX):
                found[flag] = f"{method}.{OTHER_NAMES.get(key, key)}"
        elif name.startswith("lora_"):
            key = OTHER_NAMES.get(name, name)
            if key in methods.defaults("lora"):
                found[flag] = f"lora.{key}"
    return found


def as_settings(pieces: Iterable[Piece], known: dict[str, str]) -> list[Piece]:
    """The pieces with each flag of `known` as `--set NAME=VALUE`."""
    return [
        replace(piece, words=("--set", f"{known[piece.name]}={piece.value}"), name="--set",
                value=f"{known[piece.name]}={piece.value}")
        if piece.name in known
        else piece
        for piece in pieces
    ]  # fmt: skip
