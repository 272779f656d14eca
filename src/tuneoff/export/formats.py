"""The formats of artefacts: how each is loaded without tuneoff.

In the loading code, BASE is replaced by the call that loads the base model. FOLDER is the artefact's folder.
"""

from dataclasses import dataclass
from typing import Literal

from tuneoff.adapter_settings import VIRTUAL_TOKENS

ArtefactFormat = Literal["peft", "transformers", "tensors", "embeddings", "prompt", "none"]

TENSORS_FILE = "trained.safetensors"
EMBEDDINGS_FILE = "virtual_tokens.safetensors"
SHOTS_FILE = "shots.json"


@dataclass(frozen=True)
class Format:
    """What a user of an artefact needs to know about its format."""

    loading: str | None  # Python code; None if the artefact holds no weights
    library: str = "transformers"
    adapter_files: tuple[str, ...] = ()
    """Of an artefact that is loaded into its base model: all files but the card. The last one holds the weights."""


FORMATS: dict[ArtefactFormat, Format] = {
    # an adapter of PEFT
    "peft": Format(
        """from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(BASE, "FOLDER")""",
        library="peft",
        adapter_files=("adapter_config.json", "adapter_model.safetensors"),
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
        adapter_files=(TENSORS_FILE,),
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
        adapter_files=(EMBEDDINGS_FILE,),
    ),
    # the examples that precede every document
    "prompt": Format(None),
    # nothing
    "none": Format(None),
}
