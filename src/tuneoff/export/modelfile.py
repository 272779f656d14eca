"""The Modelfile of Ollama: the prompt that a model was tuned with as its template, greedy decoding, where texts end."""

import re
from collections.abc import Mapping, Sequence

from tuneoff.prompts import Field, PromptTexts

_PLAIN = re.compile(r'[^"{}]*')
_ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def modelfile(file: str, before: str, after: str, stops: Sequence[str], *, context: int, max_new_tokens: int) -> str:
    """The text of a Modelfile beside the GGUF file `file`, whose name is letters, digits, `.`, `-` and `_`.

    `before` and `after` surround a document in the prompt; `stops` are texts that end an answer.
    """
    lines = [f"FROM ./{file}", f'TEMPLATE """{_template(before)}{{{{ .Prompt }}}}{_template(after)}"""']
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops]
    lines += [
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",
        f"PARAMETER num_ctx {context}",
        f"PARAMETER num_predict {max_new_tokens}",
    ]
    return "\n".join(lines) + "\n"


def prompt_around(texts: PromptTexts, fields: Mapping[str, str]) -> tuple[str, str]:
    """The text before a document and the one after it, with these values of the fields."""
    before = "".join(fields[part.name] if isinstance(part, Field) else part for part in texts.before)
    return "".join(texts.opening) + before, texts.after + texts.closing


def _template(text: str) -> str:
    """A text in a template of Go: with quotes or braces, it becomes a string of Go, which holds no code."""
    if _PLAIN.fullmatch(text) and not _ACTING.search(text):
        return text
    return f"{{{{ {_quoted(text)} }}}}"


def _quoted(text: str) -> str:
    """A string as Go and Ollama read it, in one line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + _ACTING.sub(lambda match: f"\\u{ord(match[0]):04x}", escaped.replace("\r", "\\r")) + '"'
