"""Model folders of strangers: used or refused in a sentence, with no code run, in bounded time and memory."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from support.warm_command import WarmCommand, limited
from support.warm_study import WarmStudy
from tuneoff import cli

Wanted = Literal["used", "refused", "either"]
Harm = Callable[[Path], object]
_MOST_SECONDS = 60.0


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._canary), "w")


def pickled(folder: Path) -> bytes:
    return pickle.dumps({"model.embed_tokens.weight": Bomb(canary_of(folder))})


def canary_of(folder: Path) -> Path:
    return folder.with_name("canary")


def change(path: Path, **changes: Any) -> None:
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(value | changes))


def settings(**changes: Any) -> Harm:
    return lambda folder: change(folder / "config.json", **changes)


def text(name: str, content: str) -> Harm:
    return lambda folder: (folder / name).write_text(content)


def linked(name: str, target: str) -> Harm:
    def link(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return link


def template(source: str) -> Harm:
    def write(folder: Path) -> None:
        (folder / "chat_template.jinja").write_text(source.replace("CANARY", str(canary_of(folder))))

    return write


def with_code(name: str, **changes: Any) -> Harm:
    """Settings that name classes of `evil.py`, which make the canary when the file is imported."""

    def write(folder: Path) -> None:
        source = f"open({str(canary_of(folder))!r}, 'w').close()\nclass C: pass\nclass M(C): pass\nclass T(C): pass\n"
        (folder / "evil.py").write_text(source)
        change(folder / name, **changes)

    return write


def weights(header: object, body: bytes = b"", length: int | None = None) -> Harm:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = struct.pack("<Q", len(content) if length is None else length)
    return lambda folder: (folder / "model.safetensors").write_bytes(size + content + body)


def _pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickled(folder))


def _pickles_beside(folder: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "rng_state.pth", "tokenizer.pkl"):
        (folder / name).write_bytes(pickled(folder))


def _index(name: str) -> Harm:
    """An index that says that the weights are in the file `name`."""

    def write(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "decoy.safetensors")
        shutil.copyfile(folder / "decoy.safetensors", folder.with_name("outside.safetensors"))
        (folder / "weights.bin").write_bytes(pickled(folder))
        names = {"model.embed_tokens.weight": name, "model.norm.weight": "decoy.safetensors"}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))

    return write


def _settings_outside(folder: Path) -> None:
    outside = (folder / "config.json").rename(folder.with_name("config.json"))
    (folder / "config.json").symlink_to(outside)


def _adapter(**more: Any) -> Harm:
    def write(folder: Path) -> None:
        base = {"peft_type": "LORA", "base_model_name_or_path": "evil/base", "r": 2, "target_modules": ["q_proj"]}
        change(folder / "adapter_config.json", **base, **more)
        (folder / "adapter_model.bin").write_bytes(pickled(folder))

    return write


def _own_generation(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(f"open({str(canary_of(folder))!r}, 'w').close()\n")


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


_CODE = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
_KERNEL = "evil/kernel"
_TENSOR = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
CASES: dict[str, tuple[Wanted, Harm]] = {
    "as it is": ("used", lambda _folder: None),
    "auto_map": ("refused", with_code("config.json", auto_map=_CODE, model_type="evil")),
    "auto_map of a known kind": ("refused", with_code("config.json", auto_map=_CODE)),
    "auto_map of the tokenizer": (
        "either",
        with_code("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T"] * 2}),
    ),
    "auto_map of one entry": ("either", with_code("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T"]})),
    "auto_map elsewhere": (
        "either",
        with_code("tokenizer_config.json", auto_map={"AutoTokenizer": ["a/b--evil.T", None]}),
    ),
    "attention kernel": ("refused", settings(attn_implementation=_KERNEL)),
    "attention kernel, private key": ("refused", settings(_attn_implementation=_KERNEL)),
    "attention kernel, internal key": ("refused", settings(_attn_implementation_internal=_KERNEL)),
    "attention kernel in a part": ("either", settings(text_config={"_attn_implementation": _KERNEL})),
    "expert kernel": ("either", settings(experts_implementation=_KERNEL)),
    "quantizer that is none": (
        "either",
        settings(quantization_config={"quant_method": "evil", "modules": "os.system"}),
    ),
    "generation of its own": ("used", _own_generation),
    "pickle alone": ("refused", _pickle_alone),
    "pickles beside": ("used", _pickles_beside),
    "index to a pickle": ("refused", _index("weights.bin")),
    "index to the outside": ("refused", _index("../outside.safetensors")),
    "adapter with a pickle": ("refused", _adapter()),
    "adapter with a module": ("refused", _adapter(megatron_config={"a": 1}, megatron_core="evil")),
    "template to the system": (
        "either",
        template("{{ ''.__class__ }}{% set x = cycler.__init__.__globals__.os.system('touch CANARY') %}"),
    ),
    "template without an end": ("refused", template("{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3)),
    "template that fills memory": ("refused", template("{% set x = 'a' * 9999999999 %}{{ x }}")),
    "template that doubles": (
        "refused",
        template(
            "{% set n = namespace(x='a') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
        ),
    ),
    "template with codes": ("either", template("\x1b[31m{{ messages[0].content }}\u202e")),
    "template that is none": ("refused", template("{% if %}")),
    "pipe": ("either", lambda folder: os.mkfifo(folder / "notes.json")),
    "endless file": ("either", linked("notes.json", "/dev/zero")),
    "endless settings": ("refused", linked("config.json", "/dev/zero")),
    "settings outside": ("refused", _settings_outside),
    "settings of the system": ("refused", linked("config.json", "/etc/passwd")),
    "circle": ("either", linked("loop", ".")),
    "brackets": ("refused", text("config.json", "[" * 200_000)),
    "brackets inside": ("refused", text("config.json", '{"a":' + "[" * 200_000 + "]" * 200_000 + "}")),
    "number of 10,000 digits": ("refused", text("config.json", '{"vocab_size": ' + "9" * 10_000 + "}")),
    "width as text": ("either", settings(hidden_size="32")),
    "no heads": ("refused", settings(num_attention_heads=0)),
    "a billion layers": ("refused", settings(num_hidden_layers=10**9)),
    "a trillion tokens": ("refused", settings(vocab_size=10**12)),
    "a trillion positions": ("either", settings(max_position_embeddings=10**12)),
    "another kind": ("refused", settings(model_type="mamba")),
    "kind as a list": ("refused", settings(model_type=["llama"])),
    "ends as texts": (
        "either",
        lambda folder: change(folder / "generation_config.json", eos_token_id=["a", None, [1]]),
    ),
    "generation settings as a list": ("refused", text("generation_config.json", "[]")),
    "tokenizer without a model": ("refused", text("tokenizer.json", '{"version": "1.0"}')),
    "tokenizer as a list": ("refused", text("tokenizer.json", "[]")),
    "settings of the tokenizer as a list": ("refused", text("tokenizer_config.json", "[]")),
    "header of 2^63 bytes": ("refused", weights(b"{}", length=2**63)),
    "header of blanks": ("refused", weights(b" " * 50_000_000)),
    "header with an infinite place": ("refused", weights({"a": _TENSOR | {"data_offsets": [0, 1e400]}}, bytes(16))),
    "tensors that overlap": ("refused", weights({"a": _TENSOR, "b": _TENSOR | {"data_offsets": [8, 24]}}, bytes(24))),
    "shape of 2^62": ("refused", weights({"a": _TENSOR | {"shape": [2**31, 2**31]}}, bytes(16))),
    "truncated": ("refused", _truncated),
}


@pytest.fixture(scope="module")
def study(warm_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> WarmStudy:
    folder = tmp_path_factory.mktemp("of_strangers")
    flags = [flag for flag in warm_flags if not flag.startswith("--model=")]
    more = ("--methods=zero_shot", "--max-test-documents=2", "--max-validation-documents=2")
    return WarmStudy((*flags, *more), folder / "study", folder / "output")


@pytest.mark.parametrize("name", CASES)
def test_a_model_of_a_stranger_is_used_or_refused(
    name: str, study: WarmStudy, full: bool, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    if not full:
        pytest.skip("one of the trials of `make faults`")
    wanted, harm = CASES[name]
    model = shutil.copytree(tiny_model("llama"), tmp_path / "model")
    harm(model)
    arguments = [*study.command.arguments, f"--model={model}"]
    running = WarmCommand(arguments, study.folder, study.output).start(limited)
    code = running.wait(_MOST_SECONDS)
    where = f"{code}, {running.said}"
    assert running.all_ended(), f"{where}: it does not end"
    study.remove()
    assert not canary_of(model).exists(), f"code ran: {where}"
    assert (
        code
        in {"used": (0,), "refused": (cli.USAGE, cli.SOME_FAILED), "either": (0, cli.USAGE, cli.SOME_FAILED)}[wanted]
    ), where
    assert "Traceback" not in running.said, where
    assert code == 0 or str(tmp_path) in running.said, where
    assert not {"\x1b", "\u202e"} & set(running.said), repr(running.said)
    print(f"{name}: {where}"[:300], flush=True)
