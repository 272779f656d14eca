"""The tokenizer is the one of AutoTokenizer, and from the second time on torch is not needed for it."""

import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tiny import write_tokenizer
from tuneoff import auto_tokenizer
from tuneoff.auto_tokenizer import load_auto_tokenizer
from tuneoff.errors import UserError

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
    assert [path.parent.name for path in folder.parent.glob("cache/*/*")] == ["tried"]


def _doubling(folder: Path) -> None:
    """A rule that replaces each letter by two, forty times."""
    path = folder / "tokenizer.json"
    rule = {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}
    normalizer = {"type": "Sequence", "normalizers": [rule] * 40}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": normalizer}))


def _backtracking(folder: Path) -> None:
    """A rule whose search takes twice as long for each letter more."""
    path = folder / "tokenizer.json"
    split = {"type": "Split", "pattern": {"Regex": r"(b|b|b)*\1(b|b|b)*c$"}, "behavior": "Isolated", "invert": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": split}))


def _growing(folder: Path) -> None:
    """Each rule makes 300 letters of one, but only of a sign that nobody tries by chance."""
    path = folder / "tokenizer.json"
    signs = "\u2646\u2647\u2648\u2649"
    rules = [
        {"type": "Replace", "pattern": {"String": one}, "content": other * 300}
        for one, other in itertools.pairwise(signs)
    ]
    normalizer = {"type": "Sequence", "normalizers": rules}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": normalizer}))


@pytest.mark.parametrize("change", [_doubling, _growing, _backtracking])
def test_a_tokenizer_without_an_end_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """It would take all memory of this process, or never end."""
    limits = dataclasses.replace(auto_tokenizer._LIMITS, memory_bytes=10**9, cpu_seconds=1)
    monkeypatch.setattr(auto_tokenizer, "_LIMITS", limits)
    change(folder)
    with pytest.raises(UserError, match=r"model: its tokenizer .*, so it cannot be trusted; give another --model"):
        load_auto_tokenizer(folder)
    assert not list(folder.parent.glob("cache/*/*"))


def test_a_tokenizer_is_tried_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_auto_tokenizer(folder)
    monkeypatch.setattr(auto_tokenizer, "call_confined", None)
    load_auto_tokenizer(folder)
    _doubling(folder)
    with pytest.raises(TypeError, match="not callable"):
        load_auto_tokenizer(folder)


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


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "..", ".x", "a\\b", "", "x" * 101])
def test_a_template_whose_name_is_a_path_is_refused(name: str, folder: Path) -> None:
    def set_template(other: str) -> None:
        path = folder / "tokenizer_config.json"
        templates = [{"name": each, "template": "x"} for each in ("default", other)]
        path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": templates}))

    set_template("tool use.2")
    assert "tool use.2" in load_auto_tokenizer(folder).chat_template
    set_template(name)
    with pytest.raises(UserError, match=r"a chat template with the name .*; give the template a plain name"):
        load_auto_tokenizer(folder)
