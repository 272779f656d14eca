"""The model card of an artefact: what it is, what made it, how to load it without tuneoff."""

import json
from pathlib import Path

from tuneoff import models, starter_packages
from tuneoff.export.formats import FORMATS, ArtefactFormat
from tuneoff.methods import Method
from tuneoff.prompts import Prompter
from tuneoff.results.json_files import write_text_atomic
from tuneoff.spec import ModelSpec, RunSpec

DOCUMENT = "DOCUMENT"  # in place of a document, whose text may be private


def write_model_card(
    folder: Path, spec: RunSpec, method: Method, artefact_format: ArtefactFormat, prompter: Prompter
) -> None:
    """Write `README.md` beside the weights; nothing for a format without weights.

    Names and values are quoted as JSON: they are data, not markup.
    """
    loading = FORMATS[artefact_format].loading
    if loading is None:
        return
    settings = json.dumps(spec.method.hyperparameters, indent=2, ensure_ascii=True)
    expected = spec.prompt.model_dump() | {"instruction": prompter.instruction}
    prompt = json.dumps(expected, indent=2, ensure_ascii=True)
    rendered = json.dumps(prompter.as_text(DOCUMENT), ensure_ascii=True)
    write_text_atomic(
        folder / "README.md",
        f"""---
library_name: {FORMATS[artefact_format].library}
pipeline_tag: text-generation
tags: [tuneoff, {json.dumps(method.name)}]
---
# {method.title}, tuned by tuneoff

Base model: {json.dumps(spec.model.name)}. Seed {spec.seed}.{_about_weights(spec.model)}

```python
{loading.replace("BASE", _base_loading(spec.model))}
```

The prompt that it was tuned with, and that it expects:

```json
{prompt}
```

As one text, with the special tokens of the base model and {DOCUMENT} in place of the document:

```json
{rendered}
```

Hyper-parameters:

```json
{settings}
```
""",
    )


def _base_loading(spec: ModelSpec) -> str:
    """The call that loads the base model without tuneoff."""
    file = _gguf_name(spec)
    arguments = [json.dumps("THE FOLDER OF THAT FILE" if file else models.public_name(spec))]
    if file:
        arguments.append(f"gguf_file={json.dumps(file)}")
    if spec.revision:
        arguments.append(f"revision={json.dumps(spec.revision)}")
    if spec.trust_remote_code:
        arguments.append("trust_remote_code=True")
    return f"AutoModelForCausalLM.from_pretrained({', '.join(arguments)})"


def _about_weights(spec: ModelSpec) -> str:
    file = _gguf_name(spec)
    if not file:
        return ""
    package = f" of the package {starter_packages.MODEL}" if spec.name == "starter" else ""
    return f" Its weights are those of {json.dumps(file)}{package}: with others of that model texts differ a little."


def _gguf_name(spec: ModelSpec) -> str | None:
    """Name of the GGUF file without its folder, which is private to this machine; None for another kind of model."""
    path = models.starter_file() if spec.name == "starter" else Path(spec.name)
    return path.name if path is not None and path.suffix == ".gguf" else None
