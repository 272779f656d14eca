"""The Modelfile of Ollama: the prompt that a model was tuned with as its template, greedy decoding, where texts end."""

import re
from collections.abc import Mapping, Sequence
from unicodedata import normalize

from tuneoff.prompts import Field, PromptTexts

_PLAIN = re.compile(r'[^"{}]*')
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def modelfile(file: str, before: str, after: str, stops: Sequence[str], *, context: int, max_new_tokens: int) -> str:
    """The text of a Modelfile beside the GGUF file `file`, whose name is letters, digits, `.`, `-` and `_`.

    `before` and `after` surround a document in the prompt; `stops` are texts that end an answer, in addition to the
    model's own end. Those that a Modelfile cannot hold are left out.
    """
    lines = [f"FROM ./{file}", f'TEMPLATE """{_template(before)}{{{{ .Prompt }}}}{_template(after)}"""']
    lines += [f'PARAMETER stop """{stop}"""' for stop in stops if _is_kept(stop) and '"""' not in stop]
    lines += [
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",
        f"PARAMETER num_ctx {context}",
        f"PARAMETER num_predict {max_new_tokens}",
    ]
    return "\n".join(lines) + "\n"


def prompt_around(texts: PromptTexts, fields: Mapping[str, str], *, nfc: bool = False) -> tuple[str, str]:
    """The text before a document and the one after it, with these values of the fields.

    `nfc`: normalized to NFC, for a tokenizer that does so. Ollama does not.
    """
    before = "".join(fields[part.name] if isinstance(part, Field) else part for part in texts.before)
    around = "".join(texts.opening) + before, texts.after + texts.closing
    return (normalize("NFC", around[0]), normalize("NFC", around[1])) if nfc else around


def _template(text: str) -> str:
    """A text in a template of Go: with quotes or braces, it becomes a string of Go, which holds no code."""
    if _PLAIN.fullmatch(text) and _is_kept(text) and "\r" not in text:
        return text
    return '{{ "' + "".join(map(_escaped, text)) + '" }}'


def _is_kept(text: str) -> bool:
    """Whether Ollama keeps all of a text in a Modelfile: it drops characters that Go's `strconv.IsPrint` excludes."""
    return all(character.isprintable() or character in "\n\r\t" for character in text)


def _escaped(character: str) -> str:
    return _ESCAPES.get(character) or (character if character.isprintable() else f"\\U{ord(character):08x}")
