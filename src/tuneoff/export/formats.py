"""The formats of artefacts: how each is loaded without tuneoff.

In the loading code, BASE stands for the call that loads the base model, and FOLDER for the artefact's folder.
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

    content: str
    loading: str | None  # Python code; None if the artefact holds no weights
    library: str = "transformers"


FORMATS: dict[ArtefactFormat, Format] = {
    "peft": Format(
        "an adapter of PEFT",
        """from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(BASE, "FOLDER")""",
        library="peft",
    ),
    "transformers": Format(
        "a whole model and its tokenizer",
        """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")""",
    ),
    "tensors": Format(
        "the trained parameters of the base model, by name",
        f"""from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = BASE
model.load_state_dict(load_file("FOLDER/{TENSORS_FILE}"), strict=False)""",
    ),
    # PEFT has no format for virtual tokens after the prompt.
    "embeddings": Format(
        "virtual tokens after the prompt",
        f"""import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = BASE
virtual = load_file("FOLDER/{EMBEDDINGS_FILE}")["{VIRTUAL_TOKENS}"]
# `prompt`: ids (1, tokens) of a whole prompt, up to where the answer begins; the virtual tokens follow it.
text = model.get_input_embeddings()(prompt)
answer = model.generate(inputs_embeds=torch.cat([text, virtual.to(text.dtype)[None]], dim=1), do_sample=False)""",
    ),
    "prompt": Format("the examples that precede every document", None),
    "none": Format("nothing", None),
}
