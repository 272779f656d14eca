"""Methods by name: those of tuneoff, `peft:<TYPE>`, and those of other packages."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_package import write_package
from tuneoff.errors import UserError
from tuneoff.methods import METHODS, LoRA, added_later, build, defaults, method_class

METHOD = """
from dataclasses import dataclass
from tuneoff.methods import AdaptedModel, Method, bounded

@dataclass(frozen=True)
class Theirs(Method):
    name = "theirs"
    title = "Theirs"
    source = "a paper"
    search = {"learning_rate": (1e-4, 1e-2)}

    learning_rate: float = bounded(1e-3, above=0, at_most=1)
    weight_decay: float = bounded(0.0, at_least=0, at_most=1)

    def apply(self, base, train, seed):
        return AdaptedModel(base.model)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("author_method", None)


def write(site: Path, source: str, name: str = "theirs") -> None:
    write_package(site, "author-method", source, f"[tuneoff.methods]\n{name} = author_method:Theirs\n")


def test_names_are_those_of_the_classes() -> None:
    assert {name: method.name for name, method in METHODS.items()} == {name: name for name in METHODS}
    assert method_class("lora") is LoRA
    assert method_class("peft:loha").title == "PEFT LOHA"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lorra", "did you mean lora?"),
        ("zzz", "there are zero_shot, few_shot,"),
        ("qlora", "LoRA is trained here on weights in fp32 or bf16, never on 4 or 8 bits; write lora,"),
        ("QDoRA", "LoRA is .*; write dora,"),
    ],
)
def test_an_unknown_method_is_answered_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"unknown method '{name}': {hint}"):
        method_class(name)


def test_an_unknown_hyperparameter_is_answered_with_a_hint() -> None:
    with pytest.raises(UserError, match=r"lora has no hyper-parameter 'lora_alfa': did you mean lora.lora_alpha\?"):
        build("lora", {"lora_alfa": 3})
    with pytest.raises(UserError, match="few_shot has no hyper-parameter 'zzz': it has shots"):
        build("few_shot", {"zzz": 3})


def test_hyperparameters_that_were_added_later_have_defaults_that_change_nothing() -> None:
    assert added_later("soft_prompt") == {"keep_instruction": True, "residual_bottleneck": 0}
    assert added_later("lora") == {}


def test_a_method_of_another_package_is_one_of_the_methods(site: Path) -> None:
    write(site, METHOD)
    assert "theirs" in METHODS
    assert list(METHODS)[-1] == "theirs"
    assert "author_method" not in sys.modules
    assert defaults("theirs") == {"learning_rate": 1e-3, "weight_decay": 0.0}
    with pytest.raises(UserError, match=r"theirs.learning_rate = 2: must be above 0 and at most 1"):
        build("theirs", {"learning_rate": 2})


@pytest.mark.parametrize(
    ("replaced", "by", "why"),
    [
        ("class Theirs(Method)", "class Theirs", "is not a subclass of tuneoff.methods.Method"),
        ('name = "theirs"', 'name = "other"', "Theirs.name must be the name of the entry point, 'theirs'"),
        ('source = "a paper"', "", "Theirs.source is missing"),
        ("@dataclass(frozen=True)", "", r"decorate Theirs with @dataclass\(frozen=True\)"),
        ("    learning_rate", "    rate", "Theirs has no hyper-parameter learning_rate"),
        ("bounded(1e-3", "bounded(3.0", "theirs.learning_rate = 3.0: must be above 0 and at most 1"),
        ("def apply", "def other", "Can't instantiate abstract class Theirs"),
        ("    weight_decay: float = bounded(0.0, at_least=0, at_most=1)", "    weight_decay: float", "TypeError: "),
    ],
)
def test_a_class_that_does_not_declare_what_it_must_is_refused(site: Path, replaced: str, by: str, why: str) -> None:
    assert replaced in METHOD
    write(site, METHOD.replace(replaced, by))
    with pytest.raises(UserError, match=f"the package author-method adds 'theirs' .*{why}"):
        method_class("theirs")


def test_a_name_that_cannot_be_a_flag_is_refused(site: Path) -> None:
    write(site, METHOD, "their-s")
    with pytest.raises(UserError, match="lower-case letters, digits and underscores"):
        method_class("their-s")


def test_a_taken_name_is_refused(site: Path) -> None:
    write(site, METHOD, "lora")
    with pytest.raises(UserError, match=r"author-method adds 'lora' .*, but tuneoff already has that name"):
        list(METHODS)
