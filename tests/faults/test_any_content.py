"""Any value in place of one that a file has, and any bytes of a header: read, judged and shown, or refused."""

import json
import math
import os
import shutil
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.damage import write_study
from support.verdict_study import study_folder, write_spec
from tuneoff.api import load_study
from tuneoff.cli.tables import summary_as_text
from tuneoff.errors import UserError
from tuneoff.model_folder import gguf_architecture, inspect_folder
from tuneoff.results import manifest
from tuneoff.results.manifest import MANIFEST, FileEntry, Manifest, manifest_text, parse_manifest
from tuneoff.results.recovery import recover
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.verification import verify
from tuneoff.study.study_file import read_study
from tuneoff.verdict.ratings import read_ratings

FULL = bool(os.environ.get("TUNEOFF_FULL_FAULTS"))


def examples(short: int, many: int) -> settings:
    """How many are tried; folders of fixtures are written anew for each."""
    suppressed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(deadline=None, max_examples=many if FULL else short, suppress_health_check=suppressed)


TEXTS = st.text(st.characters(codec=None, categories=None), max_size=6)
NUMBERS = (
    st.integers() | st.floats() | st.sampled_from((2**31, 2**63, -(2**63), 10**400, 1e308, math.inf, -1e308, 5e-324))
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def changed(value: Any, data: st.DataObject) -> Any:
    """`value` with one of the values in it exchanged, left out or added."""
    inside: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        inside = list(value.items() if isinstance(value, dict) else enumerate(value))
    if not inside or data.draw(st.integers(0, 7)) == 0:
        return data.draw(VALUES)
    key, old = data.draw(st.sampled_from(inside))
    kind = data.draw(st.sampled_from(("change", "change", "change", "change", "leave out", "add")))
    if isinstance(value, list):
        new = [] if kind == "leave out" else [changed(old, data)]
        return [*value[:key], *new, *value[key + 1 :]]
    if kind == "leave out":
        return {each: item for each, item in value.items() if each != key}
    return value | ({data.draw(TEXTS): data.draw(VALUES)} if kind == "add" else {key: changed(old, data)})


def change_file(path: Path, data: st.DataObject) -> None:
    """Change a JSON file, or one line of a JSON Lines file."""
    lines = path.read_text().splitlines(keepends=True) if path.suffix == ".jsonl" else [path.read_text()]
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at] = json.dumps(changed(json.loads(lines[at]), data)) + "\n"
    path.write_text("".join(lines))


def refusals(work: Callable[[], object], named: Path | str) -> None:
    """Do it; what is refused names the file or folder, in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            work()
        except UserError as error:
            assert str(named) in str(error), error  # noqa: PT017
            assert "\n" not in str(error), error  # noqa: PT017


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One with scores to judge, and one with every file; both without manifests, as if those fitted."""
    scored = study_folder(tmp_path_factory.mktemp("scored"), groups=3)
    write_spec(scored)
    every = write_study(tmp_path_factory.mktemp("every") / "study").path
    for path in [*scored.rglob(MANIFEST), *every.rglob(MANIFEST)]:
        path.unlink()
    return [scored, every]


@examples(10, 2000)
@given(data=st.data())
def test_any_value_in_a_study(studies: list[Path], tmp_path: Path, data: st.DataObject) -> None:
    study = tmp_path / "study"
    shutil.rmtree(study, ignore_errors=True)
    shutil.copytree(data.draw(st.sampled_from(studies)), study)
    files = [path for path in sorted(study.rglob("*.json*")) if path.name != "outputs.json"]
    for _ in range(data.draw(st.sampled_from((1, 1, 2)))):
        change_file(data.draw(st.sampled_from(files)), data)

    def judge() -> None:
        found = load_study(study)
        summary_as_text(found.summary).encode("utf-8", "backslashreplace")
        found.summary.model_dump_json()

    refusals(judge, study)
    refusals(lambda: list(verify(study)), study)
    with StudyDir(study).lock():
        refusals(lambda: list(recover(StudyDir(study))), study)


DIGESTS = st.text(st.characters(codec="utf-8"), max_size=6)  # a lone surrogate cannot be written
ENTRIES = st.builds(
    FileEntry,
    sha256=DIGESTS,
    bytes=st.integers(),
    modified_ns=st.none() | st.integers(),
    pending=st.booleans(),
    before=st.none() | DIGESTS,
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\\\0/"), min_size=1, max_size=4).filter(
    lambda name: name.strip(".")
)


@examples(15, 2000)
@given(files=st.dictionaries(NAMES, ENTRIES, max_size=3), data=st.data())
def test_a_manifest_is_as_it_was_written_or_damaged(files: dict[str, FileEntry], data: st.DataObject) -> None:
    written = Manifest(files=files)
    text = manifest_text(written).encode("utf-8", "surrogatepass")
    path = Path("study") / MANIFEST
    assert parse_manifest(text, path) == written
    other = bytearray(text)
    for _ in range(data.draw(st.integers(1, 3))):
        other[data.draw(st.integers(0, len(other) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert parse_manifest(bytes(other), path) == written
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017


@examples(15, 2000)
@given(data=st.data())
def test_any_value_in_a_manifest(tmp_path: Path, data: st.DataObject) -> None:
    """With a digest that fits, as a stranger can make it."""
    known = {"version": 1, "files": {"a.json": {"sha256": "0" * 64, "bytes": 3}}, "left_out": {"b": "c"}}
    plain = changed(known, data)
    if isinstance(plain, dict):
        plain["sha256"] = manifest._own_digest(plain)
    (tmp_path / MANIFEST).write_text(json.dumps(plain))
    refusals(lambda: list(verify(tmp_path)), tmp_path)


PIECES = st.sampled_from(
    (
        *(b"general.architecture", b"llama", b"tokenizer.ggml.tokens", b"\xff"),
        *(struct.pack("<Q", number) for number in (0, 1, 5, 20, 2**31, 2**63, 2**64 - 1)),
        *(struct.pack("<I", number) for number in (*range(14), 2**32 - 1)),
    )
)


@examples(25, 10_000)
@given(
    version=st.sampled_from((2, 3, 3, 3)) | st.integers(0, 2**32 - 1),
    counts=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 4) | st.integers(0, 2**64 - 1)),
    parts=st.lists(PIECES | st.binary(max_size=9), max_size=12),
)
def test_any_header_of_a_gguf_file(tmp_path: Path, version: int, counts: tuple[int, int], parts: list[bytes]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(parts))
    refusals(lambda: gguf_architecture(path), path)


@pytest.fixture
def model(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model("llama"), tmp_path / "model")


@examples(15, 2000)
@given(data=st.data())
def test_any_value_in_the_settings_and_headers_of_a_model(
    model: Path, tiny_model: Callable[[str], Path], data: st.DataObject
) -> None:
    config = json.loads((tiny_model("llama") / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(changed(config, data)))
    weights = (tiny_model("llama") / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", weights[:8])[0]
    header = weights[8 : 8 + size]
    if data.draw(st.booleans()):
        header = json.dumps(changed(json.loads(header), data)).encode()
        size = data.draw(st.sampled_from((len(header), len(header), 0, 2**63, 2**64 - 1)))
    (model / "model.safetensors").write_bytes(struct.pack("<Q", size) + header + weights[8 + size :][: 1 << 20])
    refusals(lambda: inspect_folder(model), model)


LINES = st.sampled_from(
    (
        *(
            'name = "x"',
            'methods = ["lora"]',
            "[data]",
            'train_file = "a.jsonl"',
            "[hyperparameters.lora]",
            "[[models]]",
        ),
        *("learning_rate = 1e-3", "trials = 3", "seeds = 1e400", "[prompt]", "max_length = -1", "a.b.c = 1", "= ="),
    )
)


@examples(25, 10_000)
@given(lines=st.lists(LINES | TEXTS, max_size=8))
def test_any_study_file(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "study.toml"
    path.write_text("\n".join(lines), errors="surrogatepass")
    refusals(lambda: read_study(path), "")  # where a key is missing, the flag is named


@examples(15, 2000)
@given(data=st.data())
def test_any_value_in_a_file_of_ratings(tmp_path: Path, data: st.DataObject) -> None:
    known = {
        "kind": "tuneoff ratings",
        "study": "s",
        "runs": ["a", "b"],
        "methods": ["a", "b"],
        "ratings": [{"id": "x", "preferred": "a"}],
    }
    path = tmp_path / "ratings.json"
    path.write_text(json.dumps(changed(known, data)))
    refusals(lambda: read_ratings(path), path)
