"""Wrong values in a study file and in flags: the sentences, in our words and with the place."""

from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.spec.toml import Override, read_toml

NAME = "should be 1 to 64 letters, digits and . _ - without spaces, and not dots alone"
SIZE = "should be a fraction between 0 and 1, or a whole number of documents"
FILES = "should be the name of a file, or a list of names"
MODELS = 'unknown key `model`; write [[models]] and its keys below it, such as name = "starter"'


def sentence(tmp_path: Path, toml: str, *overrides: Override) -> str:
    path = tmp_path / "study.toml"
    path.write_text(f"data.source = 'starter'\n{toml}\n")
    with pytest.raises(UserError) as caught:
        read_toml(path, None, overrides)
    return str(caught.value).replace(str(path), "study.toml")


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("seeds = 'three'", "`seeds` should be a whole number, not 'three'"),
        ("seeds = 1.5", "`seeds` should be a whole number, not 1.5"),
        ("seeds = 0", "`seeds` should be greater than or equal to 1, not 0"),
        ("seeds = 1979-05-27", "`seeds` should be a whole number, not 1979-05-27"),
        ("fractions = 0.5", "`fractions` should be a list in brackets, not 0.5"),
        ("fractions = ['a', 1]", "`fractions` should be a number, not 'a'"),
        ("margin = nan", "`margin` should be a finite number, not nan"),
        ("halving = 'perhaps'", "`halving` should be true or false, not 'perhaps'"),
        ("search_at = 'all'", "`search_at` should be 'each' or 'full', not 'all'"),
        ("methods = 'lora'", "`methods` should be a list in brackets, not 'lora'"),
        ("methods = []", "`methods` should have at least one entry, not []"),
        ("name = 'a b'", f"`name` {NAME}, not 'a b'"),
        ("name = '..'", f"`name` {NAME}, not '..'"),
        (f"name = '{'a' * 65}'", f"`name` {NAME}, not '{'a' * 56}..."),
        ("metric = ''", "`metric` should not be empty, not ''"),
        ("models = [{name = 3}]", "`name` should be a text, not 3"),
        ("[model]\nname = 'x'", MODELS),
        ("[[model]]\nname = 'x'", MODELS),
        ("model = 'x'", MODELS),
        ("data.test_share = 'big'", f"`test_share` {SIZE}, not 'big'"),
        ("data.validation_share = 1.5", f"`validation_share` {SIZE}, not 1.5"),
        ("data.test_share = true", f"`test_share` {SIZE}, not true"),
        ("data.train_file = 3", f"`train_file` {FILES}, not 3"),
        ("score = 'x'", "`score` should be a table, not 'x'"),
        ("steps = {lora = 'x'}", "`lora` should be a whole number, not 'x'"),
        ("claims = [{text = 'x'}]", "`kind` is missing"),
        (
            "claims = 'x'",
            "`claims` should be a list of tables: write [[claims]] and its keys below it, not 'x'",
        ),
        (
            "hyperparameters.lora.r = {a = 1}",
            "`r` should be a number, a text, true, false or a list of texts, not {'a': 1}",
        ),
    ],
)
def test_a_wrong_value_in_a_file(tmp_path: Path, toml: str, expected: str) -> None:
    assert sentence(tmp_path, toml) == f"study.toml, line 2: {expected}"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("seeds",), 0, "`seeds` should be greater than or equal to 1, not 0"),
        (("data", "test_share"), 1.5, f"`test_share` {SIZE}, not 1.5"),
        (("data", "train_file"), 3, f"`train_file` {FILES}, not 3"),
        (("train", "schedule"), "linar", "`schedule` should be 'cosine', 'linear' or 'constant', not 'linar'"),
        (("models",), [{"name": ""}], "`name` should not be empty, not ''"),
        (("prompt", "max_length"), 2, "`max_length` should be greater than or equal to 8, not 2"),
        (("train", "epochs"), "many", "`epochs` should be a number, not 'many'"),
    ],
)
def test_a_wrong_value_of_a_flag(tmp_path: Path, path: tuple[str, ...], value: object, expected: str) -> None:
    assert sentence(tmp_path, "", Override(path, value, "--the-flag")) == f"--the-flag: {expected}"


@pytest.mark.parametrize("toml", ["x = [1", "a b", 'name = "x', "seeds = 01", "seeds = 1\nseeds = 2"])
def test_what_is_not_toml_says_what_a_line_is(tmp_path: Path, toml: str) -> None:
    found = sentence(tmp_path, toml)
    assert found.startswith("study.toml: not TOML (")
    assert found.endswith('; a line is a key and its value, and texts are in quotes: name = "mine"')
