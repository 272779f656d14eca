"""A preallocated KV cache. The cache of transformers copies all its keys and values for each new token."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, each (B rows, H heads, T positions, W width), written in place.

    The buffers have space for `extra_positions` positions beyond those that are filled.
    """

    def __init__(self, extra_positions: int) -> None:
        super().__init__()
        self._extra_positions = extra_positions
        self._length = 0
        self._buffers: list[Tensor] = []

    @classmethod
    def zeros(cls, keys: Tensor, values: Tensor, rows: int, width: int, extra_positions: int) -> PreallocatedLayer:
        """A layer of `rows` rows and `width` positions filled with zeros.

        `keys` and `values` give the other dimensions, the dtype and the device.
        """
        layer = cls(extra_positions)
        layer.lazy_initialization(keys, values)
        for states in (keys, values):
            _, heads, _, head_width = states.shape
            layer._buffers.append(states.new_zeros(rows, heads, width + extra_positions, head_width))
        layer._length = width
        layer._update_views()
        return layer

    def write_row(self, row: int, keys_HTW: Tensor, values_HTW: Tensor) -> None:
        """Write one row, aligned to the last filled position."""
        start = self._length - keys_HTW.shape[1]
        for buffer, states in zip(self._buffers, (keys_HTW, values_HTW), strict=True):
            buffer[row, :, start : self._length] = states

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: Any,  # noqa: ARG002 - for layers of other kinds
        **kwargs: Any,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Append new positions; returns all keys and values so far, as views of the buffers."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new = key_states.shape[-2]
        if not self._buffers or self._length + new > self._buffers[0].shape[-2]:
            self._grow(key_states, value_states)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._length : self._length + new] = states
        self._length += new
        self._update_views()
        return self.keys, self.values

    def _grow(self, key_states: Tensor, value_states: Tensor) -> None:
        larger = []
        for index, states in enumerate((key_states, value_states)):
            rows, heads, new, width = states.shape
            buffer = states.new_empty(rows, heads, self._length + new + self._extra_positions, width)
            if self._buffers:
                buffer[:, :, : self._length] = self._buffers[index][:, :, : self._length]
            larger.append(buffer)
        self._buffers = larger

    def _update_views(self) -> None:
        self.keys, self.values = (buffer[:, :, : self._length] for buffer in self._buffers)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep only the rows `beam_idx`, in this order."""
        self._buffers = [buffer[beam_idx] for buffer in self._buffers]
        self._update_views()


def preallocated_cache(model: nn.Module, extra_positions: int) -> DynamicCache:
    """An empty cache for `model`.

    Only layers that keep all keys and values are preallocated. Others, such as sliding windows, are those of
    transformers.
    """
    cache = DynamicCache(config=model.config)
    cache.layers = [
        PreallocatedLayer(extra_positions) if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache
