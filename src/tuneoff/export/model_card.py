"""The model card of an artefact: what it is, what made it, how to load it without tuneoff."""

import json
from pathlib import Path
from typing import Literal

from tuneoff import models
from tuneoff.methods import Method
from tuneoff.prompts import Prompting, apply_wording
from tuneoff.results.run_record import write_text_atomic
from tuneoff.spec import ModelSpec, RunSpec

_LOADING = {
    "peft": """from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(BASE, "FOLDER")""",
    "transformers": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")""",
    "tensors": """from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = BASE
model.load_state_dict(load_file("FOLDER/trained.safetensors"), strict=False)""",
    # PEFT has no format for virtual tokens after the prompt.
    "embeddings": """import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = BASE
virtual = load_file("FOLDER/virtual_tokens.safetensors")["prompt_embeddings"]
# `prompt`: ids (1, tokens) of a whole prompt, up to where the answer begins; the virtual tokens follow it.
text = model.get_input_embeddings()(prompt)
answer = model.generate(inputs_embeds=torch.cat([text, virtual.to(text.dtype)[None]], dim=1), do_sample=False)""",
}


def write(
    folder: Path,
    spec: RunSpec,
    method: Method,
    kind: Literal["peft", "transformers", "tensors", "embeddings"],
    prompting: Prompting,
) -> None:
    """Write `README.md` beside the weights. Names and values are quoted as JSON: they are data, not markup."""
    settings = json.dumps(spec.method.hyperparameters, indent=2, ensure_ascii=True)
    expected = spec.prompt.model_dump() | {"instruction": apply_wording(spec.prompt.instruction, prompting)}
    prompt = json.dumps(expected, indent=2, ensure_ascii=True)
    write_text_atomic(
        folder / "README.md",
        f"""---
library_name: {"peft" if kind == "peft" else "transformers"}
pipeline_tag: text-generation
tags: [tuneoff, {method.name}]
---
# {method.title}, tuned by tuneoff

Base model: {json.dumps(spec.model.name)}. Seed {spec.seed}.{_of_weights(spec.model)}

```python
{_LOADING[kind].replace("BASE", _loaded(spec.model))}
```

The prompt that it was tuned with, and that it expects:

```json
{prompt}
```

Hyper-parameters:

```json
{settings}
```
""",
    )


def _loaded(spec: ModelSpec) -> str:
    """What loads the base model without tuneoff."""
    file = _gguf(spec)
    given = [json.dumps("THE FOLDER OF THAT FILE" if file else models.public_name(spec))]
    if file:
        given.append(f"gguf_file={json.dumps(file)}")
    if spec.revision:
        given.append(f"revision={json.dumps(spec.revision)}")
    if spec.trust_remote_code:
        given.append("trust_remote_code=True")
    return f"AutoModelForCausalLM.from_pretrained({', '.join(given)})"


def _of_weights(spec: ModelSpec) -> str:
    file = _gguf(spec)
    if not file:
        return ""
    package = f" of the package {models.STARTER_PACKAGE}" if spec.name == "starter" else ""
    return f" Its weights are those of {json.dumps(file)}{package}: with others of that model texts differ a little."


def _gguf(spec: ModelSpec) -> str | None:
    """The file's name without its place on this machine."""
    path = models.starter_file() if spec.name == "starter" else Path(spec.name)
    return path.name if path is not None and path.suffix == ".gguf" else None
