"""The tokenizer is the one of AutoTokenizer, and from the second time on torch is not needed for it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tiny import write_tokenizer
from tuneoff import auto_tokenizer
from tuneoff.auto_tokenizer import load_auto_tokenizer

CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast", "GPT2Tokenizer", "Qwen2Tokenizer", "LlamaTokenizerFast")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "model"
    write_tokenizer(model)
    (model / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return model


def set_class(folder: Path, name: str) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": name}))


def state(tokenizer: Any) -> dict[str, Any]:
    return {"class": type(tokenizer), **vars(tokenizer), "_tokenizer": tokenizer.backend_tokenizer.to_str()}


@pytest.mark.parametrize("name", CLASSES)
def test_it_is_the_same_the_first_and_the_second_time(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_class(folder, name)
    wanted = state(AutoTokenizer.from_pretrained(folder))
    assert state(load_auto_tokenizer(folder)) == wanted

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("its class is known")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    assert state(load_auto_tokenizer(folder)) == wanted
    set_class(folder, "GemmaTokenizer")
    with pytest.raises(AssertionError, match="its class is known"):  # other files: what was known does not count
        load_auto_tokenizer(folder)


def test_a_known_class_is_loaded_without_torch(folder: Path) -> None:
    load_auto_tokenizer(folder)
    code = (
        "import sys; from pathlib import Path; from tuneoff.auto_tokenizer import load_auto_tokenizer; "
        f"load_auto_tokenizer(Path({str(folder)!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False"]


def test_a_class_is_remembered_only_if_it_makes_the_same_tokenizer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_tokenizer, "_is_same", lambda *_: False)
    load_auto_tokenizer(folder)
    assert not list(folder.parent.glob("cache/checks/*"))


def test_tokenizers_that_differ_are_told_apart(folder: Path) -> None:
    one, other = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert auto_tokenizer._is_same(one, other)
    other.add_tokens(["<new>"])
    assert not auto_tokenizer._is_same(one, other)
    other = AutoTokenizer.from_pretrained(folder)
    other.chat_template = "{{ messages }}"
    assert not auto_tokenizer._is_same(one, other)


def test_no_class_of_another_package_is_loaded(folder: Path) -> None:
    from tuneoff.cache import write_answer

    write_answer("checks", auto_tokenizer._key(folder), {"module": "subprocess", "class": "Popen"})
    assert type(load_auto_tokenizer(folder)).__module__.startswith("transformers.")
