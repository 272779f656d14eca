"""The code on cards: it is Python that quotes every text, and it makes the prompts of the study."""

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tuneoff import models
from tuneoff.data import Example
from tuneoff.export.card_code import Decoding, llama_cpp_code, llama_cpp_text_code, transformers_code
from tuneoff.export.formats import ArtefactFormat
from tuneoff.prompts import Prompter, Prompting
from tuneoff.spec import ModelSpec, PromptSpec

HOSTILE = '```\n"""\n\\ \' " {{x}} \U0001f600 \u202e {aspect}.'
DECODING = Decoding(max_new_tokens=4, num_beams=1, stop_ids=(0,), pad_id=0)
DOCUMENT = "We show that a small model learns. <|end|> It is new."


def prompter(model: Path, shots: int = 0, template: Any = "plain") -> Prompter:
    tokenizer = models.load_tokenizer(ModelSpec(name=str(model)))
    examples = tuple(
        Example(str(index), f"document {index} " * 20, (f"target {index}",), "", {"aspect": "data"})
        for index in range(shots)
    )
    spec = PromptSpec(instruction=HOSTILE, max_length=90, template=template)
    return Prompter(tokenizer, spec, max_new_tokens=8, prompting=Prompting(shots=examples))


class Recorded(Exception):
    """The prompt that would be generated from."""


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("repeats", [1, 20])
def test_the_code_makes_the_token_ids_of_the_study(
    shots: int, repeats: int, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model("llama")
    own = prompter(folder, shots)
    rows, _ = own.encode([Example("a", DOCUMENT * repeats, (), "", {"aspect": "result"})], with_target=False)
    names: dict[str, Any] = {}
    spec = ModelSpec(name=str(folder))
    code = transformers_code("transformers", spec, "float32", own.as_texts(), DECODING)
    exec(code.replace('FOLDER = "."', f"FOLDER = {str(folder)!r}"), names)

    def generate(*, input_ids: torch.Tensor, **_: object) -> None:
        raise Recorded(input_ids[0].tolist())

    names["model"].generate = generate
    with pytest.raises(Recorded) as found:
        names["write"](DOCUMENT * repeats, aspect="result")
    assert found.value.args[0] == list(rows[0].prompt)
    assert (rows[0].truncated_tokens > 0) == (repeats == 20)


def test_texts_of_a_chat_template_are_the_ids_of_the_study(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    own = prompter(tiny_model("llama"))
    tokenizer = own._tokenizer
    tokenizer.chat_template = (
        "{% for message in messages %}<|user|>{{ message['content'] }}<|end|>\n{% endfor %}<|user|>answer:"
    )
    try:
        chat = Prompter(tokenizer, PromptSpec(instruction="Sum up.", template="chat"), max_new_tokens=8)
        texts = chat.as_texts()
        assert texts.opening == ("<|user|>",)
        assert texts.closing == "<|end|>\n<|user|>answer:"
        assert texts.before == ("Sum up.\n\n",)
        ends = tokenizer([texts.opening[0], texts.closing], add_special_tokens=False)["input_ids"]
        assert texts.room == 512 - 8 - len(ends[0]) - len(ends[1])
    finally:
        tokenizer.chat_template = None


@pytest.mark.parametrize("kind", ["peft", "tensors", "embeddings", "transformers"])
@pytest.mark.parametrize("base", ["starter", "x/model.gguf", "owner/name", 'a"\n```'])
def test_every_code_is_python_without_a_fence_of_its_own(
    kind: ArtefactFormat, base: str, tiny_model: Callable[[str], Path]
) -> None:
    texts = prompter(tiny_model("llama")).as_texts()
    spec = ModelSpec(name=base, revision="main")
    codes = [
        transformers_code(kind, spec, "bfloat16", texts, DECODING),
        llama_cpp_code("m'.gguf", texts, DECODING),
        llama_cpp_text_code("m.gguf", HOSTILE, "after", 128, DECODING),
    ]
    for code in codes:
        ast.parse(code)
        assert code.isascii()
        assert not any(line.startswith("```") for line in code.splitlines())
        assert "tuneoff" not in code


@pytest.mark.parametrize(("nfc", "expected"), [(True, "é"), (False, "e\u0301")])
def test_texts_for_llama_cpp_are_normalized_if_the_tokenizer_does_so(
    nfc: bool, expected: str, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Llama:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def tokenize(self, text: bytes, **_: object) -> str:
            return text.decode()

    monkeypatch.setitem(sys.modules, "llama_cpp", SimpleNamespace(Llama=Llama))
    names: dict[str, Any] = {}
    exec(llama_cpp_code("m.gguf", prompter(tiny_model("llama")).as_texts(), DECODING, nfc=nfc), names)
    assert names["ids"]("e\u0301") == expected
