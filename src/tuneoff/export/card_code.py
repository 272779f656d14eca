"""The Python code on the card of an export: it loads the model without tuneoff and defines `write(document, **fields)`.

Every text in it is an escaped literal. The folder of the card and that of a base model's own file are lines of their
own, which whoever runs the code from elsewhere replaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuneoff import models, starter_packages
from tuneoff.adapter_settings import VIRTUAL_TOKENS
from tuneoff.export.formats import EMBEDDINGS_FILE, TENSORS_FILE, ArtefactFormat
from tuneoff.prompts import Field, PromptTexts
from tuneoff.spec import ModelSpec

FOLDER_LINE = 'FOLDER = "."'
BASE_FOLDER_LINE = 'BASE_FOLDER = "the folder of the base model\'s file"'


@dataclass(frozen=True)
class Decoding:
    """How texts are written, as in the study."""

    max_new_tokens: int
    num_beams: int
    stop_ids: tuple[int, ...]
    pad_id: int


def transformers_code(kind: ArtefactFormat, base: ModelSpec, dtype: str, texts: PromptTexts, decoding: Decoding) -> str:
    """Code for transformers, and for PEFT if `kind` is that. `dtype` is torch's name of the number format."""
    imports = ["import torch"]
    lines = [FOLDER_LINE]
    if kind == "transformers":
        lines.append(f"model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.{dtype})")
    else:
        more_imports, more_lines, call = _base(base, dtype)
        imports = [*more_imports, *imports]
        lines += [*more_lines, f"model = {call}"]
    if kind == "peft":
        imports.append("from peft import PeftModel")
        lines.append("model = PeftModel.from_pretrained(model, FOLDER)")
    if kind in ("tensors", "embeddings"):
        imports.append("from safetensors.torch import load_file")
    imports.append("from transformers import AutoModelForCausalLM, AutoTokenizer")
    if kind == "tensors":
        lines.append(f'model.load_state_dict(load_file(FOLDER + "/{TENSORS_FILE}"), strict=False)')
    if kind == "embeddings":
        lines.append(f'virtual = load_file(FOLDER + "/{EMBEDDINGS_FILE}")["{VIRTUAL_TOKENS}"].to(model.dtype)')
    lines += ["model.eval()", "tokenizer = AutoTokenizer.from_pretrained(FOLDER)"]
    ids = [
        "def ids(text, special=False):",
        "    return tokenizer(text, add_special_tokens=False, split_special_tokens=not special)['input_ids']",
    ]
    settings = (
        f"max_new_tokens={decoding.max_new_tokens}, do_sample=False, num_beams={decoding.num_beams}, "
        "repetition_penalty=1.0,"
    )
    stops = f"eos_token_id={list(decoding.stop_ids)}, pad_token_id={decoding.pad_id},"
    writing = ["    prompt = torch.tensor([prompt])"]
    if kind == "embeddings":
        writing += [
            "    embedded = torch.cat([model.get_input_embeddings()(prompt), virtual[None]], dim=1)",
            "    mask = torch.ones(embedded.shape[:2], dtype=torch.long)",
            "    output = model.generate(",
            f"        inputs_embeds=embedded, attention_mask=mask, {settings}",
            f"        {stops}",
            "    )[0]",
        ]
    else:
        writing += [
            "    output = model.generate(",
            f"        input_ids=prompt, attention_mask=torch.ones_like(prompt), {settings}",
            f"        {stops}",
            "    )[0, prompt.shape[1] :]",
        ]
    writing.append("    return tokenizer.decode(output, skip_special_tokens=True).strip()")
    return _joined([*imports, "", *lines], ids, texts, writing)


def llama_cpp_code(file: str, texts: PromptTexts, decoding: Decoding, *, nfc: bool = False) -> str:
    """Code for llama-cpp-python, which loads the GGUF file `file` beside the card.

    `nfc`: the model's tokenizer normalizes texts to NFC. llama.cpp leaves that to its caller.
    """
    text = "normalize('NFC', text)" if nfc else "text"
    lines = [
        *(["from unicodedata import normalize", ""] if nfc else []),
        "from llama_cpp import Llama",
        "",
        FOLDER_LINE,
        f"model = Llama(FOLDER + {'/' + file!a}, n_ctx={texts.context}, verbose=False)",
    ]
    ids = [
        "def ids(text, special=False):",
        f"    return model.tokenize({text}.encode(), add_bos=False, special=special)",
    ]
    return _joined(lines, ids, texts, [_completion("prompt", decoding)])


def llama_cpp_text_code(file: str, before: str, after: str, context: int, decoding: Decoding) -> str:
    """The same with the prompt as one text, as Ollama passes it on. It is not on the card: Ollama needs no code.

    A document is truncated to what fits into the `context`.
    """
    return "\n".join(
        [
            "from llama_cpp import Llama",
            "",
            FOLDER_LINE,
            f"model = Llama(FOLDER + {'/' + file!a}, n_ctx={context}, verbose=False)",
            f"BEFORE, AFTER = {before!a}, {after!a}",
            "",
            "",
            "def ids(text):",
            "    return model.tokenize(text.encode(), add_bos=False, special=True)",
            "",
            "",
            "def write(document, **fields):",
            "    document = document.strip()",
            f"    room = {context - decoding.max_new_tokens} - len(ids(BEFORE)) - len(ids(AFTER))",
            "    if len(ids(document)) > room:",
            "        document = model.detokenize(ids(document)[:room]).decode(errors='ignore')",
            "    prompt = BEFORE + document + AFTER",
            _completion("prompt", decoding),
            "",
        ]
    )


def _completion(prompt: str, decoding: Decoding) -> str:
    call = (
        f"model.create_completion({prompt}, max_tokens={decoding.max_new_tokens}, temperature=0.0, repeat_penalty=1.0)"
    )
    return f"    return {call}['choices'][0]['text'].strip()"


def _joined(loading: list[str], ids: list[str], texts: PromptTexts, writing: list[str]) -> str:
    before = " + ".join(f"fields[{part.name!a}]" if isinstance(part, Field) else ascii(part) for part in texts.before)
    return "\n".join(
        [
            *loading,
            "",
            "",
            *ids,
            "",
            "",
            "def write(document, **fields):",
            "    # Each text is tokenized alone, as in training.",
            f"    opening = [token for text in {_list(texts.opening)} for token in ids(text, special=True)]",
            f"    before, after = ids({before or ascii('')}), ids({texts.after!a})",
            f"    document = ids(document.strip())[: max(0, {texts.room} - len(before) - len(after))]",
            f"    prompt = opening + before + document + after + ids({texts.closing!a}, special=True)",
            *writing,
            "",
        ]
    )


def _list(texts: tuple[str, ...]) -> str:
    return f"[{', '.join(ascii(text) for text in texts)}]"


def _base(spec: ModelSpec, dtype: str) -> tuple[list[str], list[str], str]:
    """Imports, lines and a call that load the base model of an adapter."""
    path = models.starter_file() if spec.name == "starter" else Path(spec.name)
    if path is not None and path.suffix == ".gguf":
        if spec.name == "starter":
            imports = ["from importlib.metadata import files", ""]
            package = ascii(starter_packages.MODEL)
            lines = [f"gguf = next(file.locate() for file in files({package}) if file.suffix == '.gguf')"]
            arguments = ["gguf.parent", "gguf_file=gguf.name"]
        else:
            imports, lines = [], [BASE_FOLDER_LINE]
            arguments = ["BASE_FOLDER", f"gguf_file={path.name!a}"]
    else:
        imports, lines, arguments = [], [], [ascii(models.public_name(spec))]
    if spec.revision:
        arguments.append(f"revision={spec.revision!a}")
    if spec.trust_remote_code:
        arguments.append("trust_remote_code=True")
    return imports, lines, f"AutoModelForCausalLM.from_pretrained({', '.join(arguments)}, dtype=torch.{dtype})"
