"""What the extras of the package install, and what to type where one is missing.

The package itself judges and reports. The extra `tune` brings what trains and generates.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from tuneoff.errors import UserError
from tuneoff.text import join_words

TUNE = ("torch", "transformers", "peft", "accelerate", "safetensors", "gguf")
"""Modules of the extra `tune` that training and generation cannot do without."""
INSTALL_TUNE = "run pip install 'tuneoff[tune]'"


def require_tune(what: str, modules: Sequence[str] = TUNE) -> None:
    """Raise `UserError` if one of the `modules` of the extra `tune` is missing, for `what`: a command or a function."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise UserError(f"{what} needs {join_words(missing)}, which {are} not installed; {INSTALL_TUNE}")


def missing_extra(error: BaseException) -> str | None:
    """What to type, as a sentence, if a module of the extra `tune` was imported in vain; None for any other error."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return f"this needs {name}, which is not installed; {INSTALL_TUNE}" if name in TUNE else None
