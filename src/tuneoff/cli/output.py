"""The one place that writes to stdout and stderr: what is shown may quote a stranger, and must not act on a terminal.

In a file or pipe the same characters are replaced: what is written there is often shown on a terminal later.
"""

import sys
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Self

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


class LiveText:
    """Lines on stdout that are replaced by the next ones. A context manager, so that the terminal is restored."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(), auto_refresh=False, vertical_overflow="ellipsis")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, lines: Iterable[str]) -> None:
        """Show these lines, each sanitized."""
        from rich.text import Text

        self._live.update(Text("\n".join(sanitize(line) for line in lines)), refresh=True)
