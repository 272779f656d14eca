"""Rows of random token ids, and a model with given virtual tokens, for tests of the engine."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor, nn

from tuneoff.engine.loss import KeyValuePrefix
from tuneoff.prompts import Encoded

CPU = torch.device("cpu")
# (prompt, target) lengths. Some rows are longer than the sliding windows of the tiny models, 16.
LENGTHS = ((9, 3), (2, 6), (27, 1), (18, 4))


@dataclass
class VirtualTokens:
    """A model with virtual tokens, as the engine sees it."""

    model: nn.Module
    before: Tensor | KeyValuePrefix | None = None
    after: Tensor | None = None

    def prefix(self) -> Tensor | KeyValuePrefix | None:
        return self.before

    def suffix(self) -> Tensor | None:
        return self.after

    def train_mode(self, on: bool) -> None:
        self.model.train(on)

    def state(self) -> dict[str, Tensor]:
        return {}


def random_rows(lengths: Sequence[tuple[int, int]] = LENGTHS, *, shared: int = 0) -> list[Encoded]:
    """Rows with prompts and targets of these lengths. All prompts begin with the same `shared` additional tokens."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 50, (count,), generator=generator).tolist())

    first = draw(shared)
    return [
        Encoded(str(index), first + draw(prompt), draw(target), 0) for index, (prompt, target) in enumerate(lengths)
    ]


def random_virtual_tokens(model: nn.Module, count: int) -> Tensor:
    """Embeddings that no text has."""
    width = model.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1))


def key_value_prefix(model: nn.Module, ids: Sequence[int]) -> KeyValuePrefix:
    """Keys and values of `ids`: a prefix that acts exactly like these tokens."""
    with torch.no_grad():
        cache = model(torch.tensor([list(ids)]), use_cache=True).past_key_values
    return KeyValuePrefix([(layer.keys[0], layer.values[0]) for layer in cache.layers])


class LazyRows(Sequence[Encoded]):
    """Rows that are built when indexed, like those of a run. `most_alive`: largest number of rows alive at once."""

    def __init__(self, count: int) -> None:
        self._count, self._alive, self.most_alive = count, 0, 0

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Encoded: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Encoded]: ...
    def __getitem__(self, at: int | slice) -> Encoded | Sequence[Encoded]:
        if isinstance(at, slice):
            raise NotImplementedError
        if not 0 <= at < self._count:
            raise IndexError(at)
        row = Encoded(str(at), tuple(range(1000 * at, 1000 * at + 300)), (1,), 0)
        self._alive += 1
        self.most_alive = max(self.most_alive, self._alive)
        weakref.finalize(row, self._gone)
        return row

    def _gone(self) -> None:
        self._alive -= 1
