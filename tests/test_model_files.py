"""Files of a model folder that a stranger made: pipes, devices, links, sizes; and settings that name code."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneoff.errors import UserError
from tuneoff.model_files import check_files, check_sizes, code_in_settings


def outside(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_text("a key")
    (folder / "chat_template.jinja").symlink_to(secret)


def outside_of_more_templates(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").symlink_to("/etc/passwd")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (lambda folder: os.mkfifo(folder / "notes.json"), r"notes\.json: a named pipe"),
    "pipe as weights": (lambda folder: os.mkfifo(folder / "model.safetensors"), r"model\.safetensors: a named pipe"),
    "zeros": (lambda folder: (folder / "vocab.txt").symlink_to("/dev/zero"), r"vocab\.txt: a device"),
    "folder": (lambda folder: (folder / "tokenizer.json").mkdir(), r"tokenizer\.json: a folder"),
    "circle": (lambda folder: (folder / "a.json").symlink_to("a.json"), r"a\.json: a file that cannot be read"),
    "outside": (outside, r"chat_template\.jinja: a link to .*secret, outside of the model's folder; copy"),
    "system": (lambda folder: (folder / "tokenizer.model").symlink_to("/etc/passwd"), r"a link to /etc/passwd"),
    "large": (lambda folder: os.truncate(folder / "config.json", 10**12), r"config\.json: 1,000,000 MB.*at most 16"),
    "more templates": (outside_of_more_templates, r"additional_chat_templates/rag\.jinja: a link to /etc/passwd"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_model_folder_may_not_hold(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    do, words = BAD[case]
    do(folder)
    with pytest.raises(UserError, match=words):
        check_files(folder)


def test_links_that_people_have_keep_working(tmp_path: Path) -> None:
    """A snapshot in the cache of Hugging Face, weights on another disk, links inside the folder."""
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "77").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/77")
    (snapshot / "tokenizer_config.json").symlink_to("config.json")
    (tmp_path / "elsewhere").write_bytes(b"")
    (snapshot / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(snapshot / "agent.sock")  # nobody reads a file of this name
    check_files(snapshot)
    (tmp_path / "linked").symlink_to(snapshot)
    check_files(tmp_path / "linked")


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"auto_map": {"AutoConfig": "evil.Evil"}}, "auto_map"),
        ({"text_config": {"auto_map": {}}}, "auto_map"),
        ({"attn_implementation": "kernels-of/somebody"}, "attn_implementation"),
        ({"_experts_implementation_internal": ["x"]}, "_experts_implementation_internal"),
        ({"_attn_implementation": "sdpa", "_attn_implementation_autoset": True, "attn_implementation": None}, None),
    ],
)
def test_settings_that_name_code(config: dict[str, Any], key: str | None) -> None:
    assert code_in_settings(config) == key


def test_sizes_that_people_have() -> None:
    config = {"num_hidden_layers": 61, "num_experts": 384, "vocab_size": 300_000, "max_position_embeddings": 10**12}
    check_sizes(Path("config.json"), config | {"num_key_value_heads": True}, 500)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["auto_map", "attn_implementation", "n_layers", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=4), _JSON, max_size=3))
def test_settings_of_any_form_are_read_or_refused(config: dict[str, Any]) -> None:
    code_in_settings(config)
    with contextlib.suppress(UserError):
        check_sizes(Path("config.json"), config, 5)
