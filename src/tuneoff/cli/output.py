"""The one place that writes to stdout and stderr: what is shown may quote a stranger, and must not act on a terminal.

In a file or pipe the same characters are replaced: what is written there is often shown on a terminal later.
"""

import sys
import traceback
from types import TracebackType

from tuneoff.text import escape_json, sanitize


def show(text: str) -> None:
    """Text for people on stdout. Line feeds and tabs stay, every other control code becomes `?`."""
    print(sanitize(text, keep="\n\t"), flush=True)


def show_json(text: str) -> None:
    """JSON on stdout. Control codes and marks of direction become escapes, which mean the same."""
    print(escape_json(text), flush=True)


def say(message: str) -> None:
    """A message on stderr, in one line."""
    print(sanitize(" ".join(message.split())), file=sys.stderr, flush=True)


def show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python does with an error that nobody expected, without the control codes that it may quote."""
    print(sanitize("".join(traceback.format_exception(kind, error, trace)), keep="\n"), file=sys.stderr, end="")
