"""The model card of an artefact: what it is, what made it, how to load it without tuneoff."""

import json
from pathlib import Path
from typing import Literal

from tuneoff.methods import Method
from tuneoff.prompts import Prompting, worded
from tuneoff.record import write_text_atomic
from tuneoff.spec import RunSpec

_LOADING = {
    "peft": """from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("FOLDER")""",
    "transformers": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")""",
    "tensors": """from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("BASE")
model.load_state_dict(load_file("FOLDER/trained.safetensors"), strict=False)""",
    # PEFT has no format for virtual tokens after the prompt.
    "embeddings": """import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("BASE")
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
    expected = spec.prompt.model_dump() | {"instruction": worded(spec.prompt.instruction, prompting)}
    prompt = json.dumps(expected, indent=2, ensure_ascii=True)
    write_text_atomic(
        folder / "README.md",
        f"""---
library_name: {"peft" if kind == "peft" else "transformers"}
pipeline_tag: text-generation
tags: [tuneoff, {method.name}]
---
# {method.title}, tuned by tuneoff

Base model: {json.dumps(spec.model.name)}. Seed {spec.seed}.

```python
{_LOADING[kind]}
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
