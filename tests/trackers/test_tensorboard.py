"""What TensorBoard has logged, read back by its own package."""

from collections.abc import Callable
from typing import Any

import pytest
from fake_tracked import LOSSES


def test_a_run_is_read_back_by_tensorboard(read_back: Callable[..., Any]) -> None:
    pytest.importorskip("tensorboard", exc_type=ImportError)
    code = """if True:
        import json, sys
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        read = EventAccumulator(sys.argv[1] + "/tensorboard/lora-s0", size_guidance={"tensors": 0})
        read.Reload()
        curves = {tag: [(point.step, point.value) for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
        texts = {tag: read.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in read.Tags()["tensors"]}
        print(json.dumps([curves, texts, read.Tags()["images"]]))
    """
    curves, texts, images = read_back("tensorboard", code, "tensorboard --logdir")
    assert curves["train/loss"] == [[number, loss] for number, loss in enumerate(LOSSES, 1)]
    assert curves["validation/loss"] == [[3, 2.625]]
    assert curves["resources/memory_bytes"] == [[4, pytest.approx(123_456_789, abs=8)]]
    assert curves["scores/rouge1"] == [[0, 0.3125]]
    assert "scores/rouge2" not in curves
    assert '"name": "lora"' in texts["settings/text_summary"]
    assert "| first \U0001f600 text | True | 0.5 |" in texts["predictions/text_summary"]
    assert texts["status/text_summary"] == "finished"
    assert images == ["figures/loss"]
