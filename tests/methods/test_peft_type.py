"""`peft:<TYPE>`: adapters of the installed PEFT."""

import warnings
from pathlib import Path

import pytest
import torch
from method_helpers import TinyModel, encoded, examples, logits, logits_of_base, train

from support.tiny_bases import load_tiny
from tuneoff.errors import UserError
from tuneoff.methods import build


@pytest.mark.parametrize("name", ["peft:VERA", "peft:LOHA", "peft:OFT", "peft:LORA"])
def test_a_type_of_peft_trains_saves_and_restores(name: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    method = build(name, {"r": 2} if name not in ("peft:VERA", "peft:OFT") else {})
    base = load_tiny(tiny_model("qwen2"))
    rows = encoded(base)
    untrained = logits_of_base(base, rows)
    adapted = method.adapt(base, examples(), 0)
    train(adapted, rows)
    expected = logits(adapted, rows)
    assert not torch.allclose(expected, untrained)
    adapted.save(tmp_path)
    restored = method.restore(load_tiny(tiny_model("qwen2")), tmp_path)
    restored.train_mode(False)
    assert torch.equal(logits(restored, rows), expected)


def test_types_that_peft_does_not_have_in_layers_are_refused() -> None:
    for name in ("peft:NOTHING", "peft:PROMPT_TUNING"):
        with pytest.raises(UserError, match="no such type among"):
            build(name, {})
    with pytest.raises(UserError, match="no hyper-parameter 'rr'"):
        build("peft:LOHA", {"rr": 2})


def test_an_error_of_peft_is_one_sentence(tiny_model: TinyModel) -> None:
    with pytest.raises(UserError, match="peft:LOHA: PEFT refuses this"):
        build("peft:LOHA", {"r": -1}).adapt(load_tiny(tiny_model("llama")), [], 0)


def test_settings_of_a_stranger_load_nothing_and_need_no_more_than_the_model(tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("llama"))
    with pytest.raises(UserError, match=r"peft:shadow\.shadow_model: names code, a pickle or another model"):
        build("peft:shadow", {"shadow_model": "owner/model"}).apply(base, examples(), 0)
    with pytest.raises(UserError, match="peft:lora: `r` is 1,000,000,000, which is beyond reason"):
        build("peft:lora", {"r": 10**9}).apply(base, examples(), 0)


def test_a_type_that_needs_steps_of_its_own_is_not_trained(tiny_model: TinyModel) -> None:
    with pytest.raises(UserError, match=r"peft:ADALORA: changes its layers between the steps of PEFT's own.*use lora"):
        build("peft:ADALORA", {"total_step": 9}).adapt(load_tiny(tiny_model("llama")), examples(), 0)


def test_a_run_of_such_a_type_by_an_earlier_version_can_be_used(tiny_model: TinyModel, tmp_path: Path) -> None:
    method = build("peft:ADALORA", {"total_step": 9})
    base = load_tiny(tiny_model("llama"))
    rows = encoded(base)
    untrained = logits_of_base(base, rows)
    adapted = method.apply(base, examples(), 0)  # as that version did
    train(adapted, rows)
    expected = logits(adapted, rows)
    assert not torch.allclose(expected, untrained)
    adapted.save(tmp_path)
    restored = method.restore(load_tiny(tiny_model("llama")), tmp_path)
    restored.train_mode(False)
    torch.testing.assert_close(logits(restored, rows), expected)
    restored.merge()
    torch.testing.assert_close(logits(restored, rows), expected, atol=1e-5, rtol=1e-4)


def test_norms_are_what_ln_tuning_trains(tiny_model: TinyModel) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unsupported layer type")  # PEFT does not know Llama's norm
        adapted = build("peft:LN_TUNING", {}).adapt(load_tiny(tiny_model("llama")), [], 0)
    assert adapted.state()
    assert all(tensor.ndim == 1 for tensor in adapted.state().values())
