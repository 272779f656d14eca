"""A key-value cache that writes in place. The usual one copies everything it holds at each new token."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values (B rows, heads, T positions, width) in a buffer with room for `room` more positions."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._length = 0
        self._buffers: list[Tensor] = []

    @classmethod
    def empty(cls, keys: Tensor, values: Tensor, rows: int, width: int, room: int) -> RoomyLayer:
        """A layer of `rows` rows and `width` positions, all zero, in the shapes of `keys` and `values` otherwise."""
        layer = cls(room)
        layer.lazy_initialization(keys, values)
        for states in (keys, values):
            _, heads, _, head_width = states.shape
            layer._buffers.append(states.new_zeros(rows, heads, width + room, head_width))
        layer._length = width
        layer._show()
        return layer

    def place(self, row: int, keys_HTD: Tensor, values_HTD: Tensor) -> None:
        """Write one row so that it ends where the layer ends."""
        start = self._length - keys_HTD.shape[1]
        for buffer, states in zip(self._buffers, (keys_HTD, values_HTD), strict=True):
            buffer[row, :, start : self._length] = states

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: Any,  # noqa: ARG002 - what other layers are told
        **kwargs: Any,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Append; returns everything held so far as views of the buffer."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new = key_states.shape[-2]
        if not self._buffers or self._length + new > self._buffers[0].shape[-2]:
            self._grow(key_states, value_states)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._length : self._length + new] = states
        self._length += new
        self._show()
        return self.keys, self.values

    def _grow(self, key_states: Tensor, value_states: Tensor) -> None:
        larger = []
        for index, states in enumerate((key_states, value_states)):
            rows, heads, new, width = states.shape
            buffer = states.new_empty(rows, heads, self._length + new + self._room, width)
            if self._buffers:
                buffer[:, :, : self._length] = self._buffers[index][:, :, : self._length]
            larger.append(buffer)
        self._buffers = larger

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self._length] for buffer in self._buffers)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the rows `beam_idx`, in this order."""
        self._buffers = [buffer[beam_idx] for buffer in self._buffers]
        self._show()


def decoding_cache(model: nn.Module, room: int) -> DynamicCache:
    """An empty cache for `model`. Layers of another kind than plain attention (sliding windows) stay as they are."""
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
