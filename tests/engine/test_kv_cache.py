from collections.abc import Callable
from pathlib import Path

import torch
from transformers import DynamicCache

from tuneoff.engine.kv_cache import PreallocatedLayer, preallocated_cache


def test_holds_the_same_as_concatenation() -> None:
    """Random appends and row selections, also beyond the preallocated space."""
    generator = torch.Generator().manual_seed(0)
    layer = PreallocatedLayer(extra_positions=3)  # too few, so the buffers have to grow
    keys, values = torch.empty(4, 2, 0, 5), torch.empty(4, 2, 0, 5)
    for step, new in enumerate((7, 1, 1, 1, 1, 2, 1, 1, 1, 1)):
        shape = (len(keys), 2, new, 5)
        key, value = (torch.randn(shape, generator=generator) for _ in range(2))
        keys, values = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        found = layer.update(key, value)
        assert torch.equal(found[0], keys)
        assert torch.equal(found[1], values)
        assert layer.get_seq_length() == keys.shape[2]
        if step in (3, 7):
            left = torch.arange(len(keys) - 1)
            layer.reorder_cache(left)
            keys, values = keys[left], values[left]
            assert torch.equal(layer.keys, keys)


def test_writes_in_place_while_positions_are_free() -> None:
    layer = PreallocatedLayer(extra_positions=5)
    layer.update(torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 4, 2))
    address = layer.keys.data_ptr()
    for _ in range(5):
        layer.update(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    assert layer.keys.data_ptr() == address


def test_sliding_windows_keep_their_own_layers(tiny_model: Callable[[str], Path]) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model("gemma3"))
    ours, theirs = preallocated_cache(model, 4).layers, DynamicCache(config=model.config).layers
    kinds = [(type(one).__name__, type(other).__name__) for one, other in zip(ours, theirs, strict=True)]
    assert kinds == [("DynamicSlidingWindowLayer", "DynamicSlidingWindowLayer"), ("PreallocatedLayer", "DynamicLayer")]
