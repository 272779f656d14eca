"""The formats of artefacts: how each is loaded without tuneoff.

In the loading code, BASE is replaced by the call that loads the base model. FOLDER is the artefact's folder.
"""

from dataclasses import dataclass
from typing import Literal

ArtefactFormat = Literal["peft", "transformers", "tensors", "embeddings", "prompt", "none"]

TENSORS_FILE = "trained.safetensors"
EMBEDDINGS_FILE = "virtual_tokens.safetensors"
SHOTS_FILE = "shots.json"
VIRTUAL_TOKENS = "prompt_embeddings"  # PEFT's name of this tensor


@dataclass(frozen=True)
class Format:
    """What a user of an artefact needs to know about its format."""

    loading: str | None  # Python code; None if the artefact holds no weights
    library: str = "transformers"


FORMATS: dict[ArtefactFormat, Format] = {
    # an adapter of PEFT
    "peft": Format(
        """from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(BASE, "FOLDER")""",
        library="peft",
    ),
    # a whole model and its tokenizer
    "transformers": Format(
        """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")""",
    ),
    # the trained parameters of the base model, by name
    "tensors": Format(
        f"""from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = BASE
model.load_state_dict(load_file("FOLDER/{TENSORS_FILE}"), strict=False)""",
    ),
    # virtual tokens after the prompt, for which PEFT has no format
    "embeddings": Format(
        f"""import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = BASE
virtual = load_file("FOLDER/{EMBEDDINGS_FILE}")["{VIRTUAL_TOKENS}"]
# `prompt`: ids (1, tokens) of a whole prompt, up to where the answer begins; the virtual tokens follow it.
text = model.get_input_embeddings()(prompt)
answer = model.generate(inputs_embeds=torch.cat([text, virtual.to(text.dtype)[None]], dim=1), do_sample=False)""",
    ),
    # the examples that precede every document
    "prompt": Format(None),
    # nothing
    "none": Format(None),
}
