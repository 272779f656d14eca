"""Finding and loading base models, and the errors for those that cannot be used."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import config_of, write_tokenizer
from tuneoff import models
from tuneoff.errors import UserError
from tuneoff.spec import ModelSpec

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), copy)
    return copy


def load(folder: Path, **options: Any) -> models.BaseModel:
    return models.load_model(ModelSpec(name=str(folder), **options), CPU, torch.float32)


def test_loads_frozen_and_in_evaluation_mode(folder: Path) -> None:
    base = load(folder)
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert base.stop_ids == {0}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pickle"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x00" * 100), "header is damaged"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "no tokenizer"),
    ],
)
def test_a_damaged_folder_is_one_error(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["auto_map", "_attn_implementation", "_attn_implementation_internal"])
def test_code_that_comes_with_a_model_is_not_run(folder: Path, key: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config[key] = {"AutoConfig": "evil.Evil"} if key == "auto_map" else "evil/kernel"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"`{key}` would run code"):
        load(folder)
    assert not canary.exists()


def test_a_tokenizer_without_an_end_is_refused(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("eos_token", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match="no EOS"):
        load(folder)


def test_a_hub_id_offline_is_one_error_and_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(UserError, match="nobody/nothing: cannot be downloaded"):
        models.locate(ModelSpec(name="nobody/nothing"))


@pytest.mark.parametrize("name", ["./not-there", "/not/there", "model.gguf", "a/b/c"])
def test_a_missing_path_is_reported(name: str) -> None:
    with pytest.raises(UserError, match="no such folder or file"):
        models.locate(ModelSpec(name=name))


@pytest.mark.parametrize(
    ("address", "hub_id"),
    [("https://huggingface.co/gpt2", "gpt2"), ("https://hf.co/owner/name/tree/main", "owner/name")],
)
def test_the_address_of_a_model_is_answered_with_its_hub_id(address: str, hub_id: str) -> None:
    with pytest.raises(UserError, match=f"a web address; give the model's hub id: --model {hub_id}$"):
        models.locate(ModelSpec(name=address))


def test_a_file_that_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match="neither a model folder nor"):
        models.locate(ModelSpec(name=str(tmp_path / "a.txt")))


def test_content_hash_depends_on_every_byte(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = ModelSpec(name=str(folder))
    before = models.model_content_hash(spec)
    assert models.model_content_hash(spec) == before
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(1, 1))
    assert models.model_content_hash(spec) != before


def test_content_hash_is_cached_but_does_not_need_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = ModelSpec(name=str(folder))
    before = models.model_content_hash(spec)
    stored = list((tmp_path / "cache" / "tuneoff" / "hashes").iterdir())
    assert stored
    for path in stored:  # a digest that was changed would make the model another one
        path.write_text(path.read_text().translate(str.maketrans("0123456789", "1234567890")))
    assert models.model_content_hash(spec) == before
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert models.model_content_hash(spec) == before


@pytest.mark.parametrize("kind", ["Mamba", "RecurrentGemma"])
def test_a_model_without_a_kv_cache_is_refused(kind: str, tmp_path: Path) -> None:
    """transformers would ignore a KV cache, or share one state between threads: all texts would be garbage."""
    import transformers

    size = {"vocab_size": 400, "hidden_size": 16, "num_hidden_layers": 1}
    config = (
        transformers.MambaConfig(**size, state_size=4)
        if kind == "Mamba"
        else transformers.RecurrentGemmaConfig(**size, intermediate_size=32, num_attention_heads=4, lru_width=16)
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(UserError, match=f"{kind}ForCausalLM does not use a KV cache"):
        load(tmp_path)


def test_a_model_without_its_head_is_refused(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """transformers would initialize a head at random, differently in each run of a study."""
    import transformers

    transformers.LlamaModel(config_of("llama")).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(UserError, match=r"lacks 1 weight of a LlamaForCausalLM \(first: lm_head.weight\)"):
        load(tmp_path)


def test_a_model_that_reads_both_ways_is_refused(tmp_path: Path) -> None:
    """Its loss would be low, because it sees the tokens that it predicts."""
    import transformers

    size = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.RobertaConfig(**size, intermediate_size=64, eos_token_id=0, pad_token_id=0)
    transformers.RobertaForCausalLM(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(UserError, match="RobertaForCausalLM reads a text in both directions"):
        load(tmp_path)


def test_padding_has_an_embedding_even_if_the_padding_token_has_none(folder: Path) -> None:
    tokenizer = models.load_tokenizer(ModelSpec(name=str(folder)))
    tokenizer.add_tokens([f"<|more{number}|>" for number in range(9)])
    tokenizer.add_special_tokens({"pad_token": "<|padding|>"})
    tokenizer.save_pretrained(folder)
    base = load(folder)
    rows = base.model.get_input_embeddings().num_embeddings
    assert base.tokenizer.pad_token_id >= rows > base.pad_id


def test_a_gguf_file_in_the_folder_is_part_of_the_content_hash(folder: Path) -> None:
    """Run ids of folders with a GGUF file and safetensors stay the same."""
    before = models.model_content_hash(ModelSpec(name=str(folder)))
    (folder / "model-q4.gguf").write_bytes(b"GGUF")
    assert models.model_content_hash(ModelSpec(name=str(folder))) != before


def test_artefacts_name_no_path_of_this_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    model = models.load_model(ModelSpec(name="owner/name"), CPU, torch.float32).model
    assert (model.name_or_path, model.config.name_or_path) == ("owner/name", "owner/name")
    assert models.public_name(ModelSpec()) == models.STARTER_HUB_NAME


@pytest.mark.parametrize("trusted", [False, True])
def test_code_is_downloaded_and_hashed_if_it_may_run(
    trusted: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def fake_download(name: str, revision: str, allow_patterns: list[str]) -> str:
        assert (name, revision) == ("owner/name", "main")
        assert ("*.py" in allow_patterns) == trusted
        return str(folder)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake_download)
    spec = ModelSpec(name="owner/name", revision="main", trust_remote_code=trusted)
    assert models.locate(spec) == folder
    before = models.model_content_hash(spec)
    (folder / "code").mkdir()
    (folder / "code" / "modeling.py").write_text("VERSION = 2")
    assert (models.model_content_hash(spec) != before) == trusted


def test_weights_exchanged_for_those_of_another_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"hidden_size": 16}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="settings and weights do not fit together"):
        load(folder)


@pytest.fixture
def adapter(folder: Path, tmp_path: Path) -> Path:
    """A LoRA adapter of the model in `folder`, with weights far from nothing."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(load(folder).model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(torch.tensor([[5, 6, 7, 8]])).logits
    return result


def test_an_adapter_is_merged_into_its_base(
    folder: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wanted = logits(PeftModel.from_pretrained(load(folder).model, str(adapter)))
    merged = load(adapter)
    assert torch.allclose(logits(merged.model), wanted, atol=1e-5)
    assert not torch.allclose(logits(load(folder).model), wanted, atol=1e-2)
    assert merged.tokenizer.eos_token_id == 0
    spec = ModelSpec(name=str(adapter))
    before = models.model_content_hash(spec)
    config = json.loads((folder / "config.json").read_text()) | {"rope_theta": 5.0}
    (folder / "config.json").write_text(json.dumps(config))
    assert models.model_content_hash(spec) != before


def test_an_adapter_whose_tokenizer_brings_code_is_refused(adapter: Path) -> None:
    code = {"auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}, "tokenizer_class": "T"}
    (adapter / "tokenizer_config.json").write_text(json.dumps(code))
    with pytest.raises(UserError, match="no tokenizer that transformers can read"):
        load(adapter)


def test_an_adapter_without_its_base(adapter: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"a PEFT adapter of .*model, and that base cannot be used here .*no such"):
        models.locate(ModelSpec(name=str(adapter)))


def test_an_adapter_left_beside_the_whole_model_is_not_applied(folder: Path, adapter: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, folder / name)
    with pytest.raises(UserError, match=r"holds a whole model and beside it adapter_config\.json"):
        load(folder)


def test_the_skeleton_of_a_model_reads_no_weight(folder: Path) -> None:
    skeleton = models.skeleton(ModelSpec(name=str(folder)))
    assert {parameter.device.type for parameter in skeleton.parameters()} == {"meta"}
    assert sorted(name for name, _ in skeleton.named_parameters()) == sorted(
        name for name, _ in load(folder).model.named_parameters()
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "has no tokenizer; copy the tokenizer's files"),
        (b"\n\x0e\n\x05<unk>", "its tokenizer, tokenizer.model, needs `pip install sentencepiece protobuf`"),
        (b"IQ== 0\n", "its tokenizer, tokenizer.model, needs `pip install tiktoken`"),
    ],
)
def test_what_a_tokenizer_lacks_is_named(
    content: bytes | None, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in [*folder.glob("tokenizer*"), *folder.glob("vocab*"), *folder.glob("merges*")]:
        path.unlink()
    if content is not None:
        (folder / "tokenizer.model").write_bytes(content)
    monkeypatch.setattr(models, "_is_installed", lambda package: False)
    with pytest.raises(UserError, match=said):
        models.load_tokenizer(ModelSpec(name=str(folder)))


def test_a_text_ends_at_tokens_that_the_model_has(folder: Path) -> None:
    base = load(folder)
    rows = base.model.get_input_embeddings().num_embeddings
    assert base.model.generation_config is not None
    base.model.generation_config.eos_token_id = [rows - 1, rows, 10**20, -1, "x", 1.5]
    assert base.stop_ids == {0, rows - 1}
