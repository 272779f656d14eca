"""Runs the code of a card in a process of its own, in which tuneoff cannot be imported.

This file is also the program of that process: it imports nothing of tuneoff then. It reads a JSON line with the code
and the places of packages, then one for each document, and answers each document with a JSON line.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


class CardFailed(Exception):
    """The other program could not load the export, or could not write a text. The message is its last line."""


def texts_of_card(code: str, documents: Iterable[tuple[str, Mapping[str, str]]]) -> Iterator[str]:
    """What `write(document, **fields)` of `code` returns for each document, in order, as the texts come.

    Raises `CardFailed`.
    """
    from tuneoff.engine.thread_waiting import WAITING

    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - this interpreter and this file
            [sys.executable, "-P", "-W", "ignore", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**WAITING, **os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _ask(process.stdin, {"code": code, "path": sys.path})
            for document, fields in documents:
                _ask(process.stdin, {"document": document, "fields": dict(fields)})
                line = process.stdout.readline()
                if not line:
                    process.wait()
                    errors.seek(0)
                    raise CardFailed(_last_line(errors.read().decode(errors="replace")) or f"exit {process.returncode}")
                yield str(json.loads(line)["text"])
        except BrokenPipeError as error:
            process.wait()
            errors.seek(0)
            raise CardFailed(_last_line(errors.read().decode(errors="replace"))) from error
        finally:
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
            process.kill()
            process.wait()


def _ask(stream: Any, question: dict[str, Any]) -> None:
    stream.write(json.dumps(question).encode() + b"\n")
    stream.flush()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _answer() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to stderr
    sys.modules["tuneoff"] = None  # type: ignore[assignment]
    names: dict[str, Any] = {}
    given = json.loads(sys.stdin.readline())
    sys.path[:] = given["path"]
    exec(compile(given["code"], "README.md", "exec"), names)  # noqa: S102 - ours, on the card
    for line in sys.stdin:
        question = json.loads(line)
        text = names["write"](question["document"], **question["fields"])
        answers.write(json.dumps({"text": text}) + "\n")
        answers.flush()


if __name__ == "__main__":
    _answer()
