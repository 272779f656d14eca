"""Zero-shot: the unchanged base model, its loss and its greedy and beam texts."""

import pytest
import torch
from method_helpers import TinyModel, encoded, write_texts

from support.tiny_bases import CPU, load_tiny
from tiny import ARCHITECTURES
from tuneoff.engine.loss import collate, target_loss
from tuneoff.methods import build


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prompt_tokens_carry_no_loss(architecture: str, tiny_model: TinyModel) -> None:
    """The loss is the sum over the target's tokens, EOS included, and over nothing else."""
    base = load_tiny(tiny_model(architecture))
    rows = encoded(base, 3)
    adapted = build("zero_shot", {}).adapt(base, [], 0)
    expected = 0.0
    for row in rows:
        assert row.target[-1] == base.tokenizer.eos_token_id
        ids = torch.tensor([row.prompt + row.target])
        with torch.inference_mode():
            log_probabilities = base.model(input_ids=ids).logits[0].log_softmax(-1)
        for index, token in enumerate(row.target):
            expected -= float(log_probabilities[len(row.prompt) + index - 1, token])
    with torch.inference_mode():
        found = float(target_loss(adapted, collate(rows, 0, CPU)))
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_text_equals_that_of_transformers(architecture: str, tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model(architecture))
    rows = encoded(base)
    adapted = build("zero_shot", {}).adapt(base, [], 0)
    written = write_texts(adapted, base, rows, 10)
    for row, ours in zip(rows, written, strict=True):
        ids = torch.tensor([row.prompt])
        theirs = base.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, pad_token_id=0
        )[0, len(row.prompt) :].tolist()
        stopped = 0 in theirs
        assert ours.stopped == stopped
        assert list(ours.token_ids) == (theirs[: theirs.index(0)] if stopped else theirs)


def test_generation_settings_of_a_model_do_not_affect_beams(tiny_model: TinyModel) -> None:
    written = []
    for penalty in (1.0, 50.0):
        base = load_tiny(tiny_model("llama"))
        base.model.generation_config.repetition_penalty = penalty
        adapted = build("zero_shot", {}).adapt(base, [], 0)
        written.append(write_texts(adapted, base, encoded(base), 8, beams=2))
        assert base.model.generation_config.repetition_penalty == penalty
    assert written[0] == written[1]
