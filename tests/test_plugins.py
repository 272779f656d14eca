"""Entries of other packages: found without importing them, and refused with one sentence."""

import sys
from pathlib import Path

import pytest

from fake_package import write_package
from tuneoff.errors import UserError
from tuneoff.plugins import Registry

GROUP = "tuneoff.things"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def check(name: str, loaded: object) -> int:
    if not isinstance(loaded, int):
        raise ValueError(f"{loaded!r} is not a number")
    return loaded


def registry() -> Registry[int]:
    return Registry(GROUP, {"one": 1}, check)


def test_without_packages_there_are_the_built_in_entries() -> None:
    assert dict(registry()) == {"one": 1}
    assert "two" not in registry()
    with pytest.raises(KeyError):
        registry()["two"]


def test_names_are_read_without_importing_a_package(site: Path) -> None:
    write_package(site, "author-numbers", "TWO = 2", f"[{GROUP}]\ntwo = author_numbers:TWO\n")
    numbers = registry()
    assert list(numbers) == ["one", "two"]
    assert len(numbers) == 2
    assert "two" in numbers
    assert "author_numbers" not in sys.modules
    assert numbers["two"] == 2
    assert sys.modules.pop("author_numbers")
    assert numbers["two"] == 2  # kept, not loaded again
    assert "author_numbers" not in sys.modules


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("TWO = 'two'", "'two' is not a number"),
        ("", "AttributeError: module 'author_broken' has no attribute 'TWO'"),
    ],
)
def test_a_broken_entry_is_one_sentence_that_names_the_package(site: Path, source: str, why: str) -> None:
    write_package(site, "author-broken", source, f"[{GROUP}]\ntwo = author_broken:TWO\n")
    numbers = registry()
    assert numbers["one"] == 1
    with pytest.raises(UserError) as caught:
        numbers["two"]
    sys.modules.pop("author_broken", None)
    assert str(caught.value) == (
        f"the package author-broken adds 'two' (tuneoff.things), which cannot be used ({why}); "
        "update or uninstall that package"
    )


def test_a_built_in_name_is_taken(site: Path) -> None:
    write_package(site, "author-one", "", f"[{GROUP}]\none = author_one:ONE\n")
    with pytest.raises(UserError, match=r"the package author-one adds 'one' .*, but tuneoff already has that name"):
        list(registry())


def test_two_packages_cannot_use_one_name(site: Path) -> None:
    for name in ("author-a", "author-b"):
        write_package(site, name, "", f"[{GROUP}]\ntwo = {name.replace('-', '_')}:TWO\n")
    with pytest.raises(UserError, match=r"author-b adds 'two' .*, but the package author-a already has that name"):
        list(registry())
