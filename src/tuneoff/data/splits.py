"""Seeded choices of groups, never of pairs. A group's place in an order depends on its text, the seed and the purpose
only: not on other rows, the platform or the order of the file."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tuneoff.data.example import Example, Split
from tuneoff.data.store import Examples
from tuneoff.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt


def rank(group: str, seed: int, purpose: str) -> int:
    """The place of a group in the order of a seed, uniform in 0 .. 2**256 - 1 (SHA-256)."""
    return int.from_bytes(rank_bytes(group, seed, purpose))


def rank_bytes(group: str, seed: int, purpose: str) -> bytes:
    """`rank` as 32 bytes that sort as it does."""
    return hashlib.sha256(f"{purpose}:{seed}:{group}".encode()).digest()


def first_groups(examples: Iterable[Example], limit: int | None, seed: int) -> tuple[Iterable[Example], int]:
    """The examples of the `limit` first groups in the order of the seed, and how many examples were left out.

    Nested: ten groups are among the twenty of the same seed. Examples keep their order. Memory is bounded by the
    groups that stay, so a small part of a large table is cheap; without a limit nothing is held.
    """
    if limit is None:
        return examples, 0
    kept: dict[str, list[tuple[int, Example]]] = {}
    last_first: list[tuple[int, str]] = []  # heap with the group of the highest rank on top
    seen = 0
    for place, example in enumerate(examples):
        seen = place + 1
        group = example.group
        if group not in kept:
            entry = (-rank(group, seed, "cap"), group)
            if len(last_first) < limit:
                heapq.heappush(last_first, entry)
            elif entry > last_first[0]:
                del kept[heapq.heapreplace(last_first, entry)[1]]
            else:
                continue
            kept[group] = []
        kept[group].append((place, example))
    chosen = sorted((pair for pairs in kept.values() for pair in pairs), key=lambda pair: pair[0])
    return [example for _, example in chosen], seen - len(chosen)


def first_of(examples: Examples, limit: int | None, seed: int) -> tuple[Examples, int]:
    """What `first_groups` gives, of examples that are on the disk already."""
    if limit is None:
        return examples, 0
    groups, group_of = _groups_of(examples)
    chosen = examples.select(np.flatnonzero(_among(_order(groups, seed, "cap")[:limit], len(groups))[group_of]))
    return chosen, len(examples) - len(chosen)


def take_fraction(examples: Sequence[Example], fraction: float, seed: int) -> Sequence[Example]:
    """The examples of `fraction` of the groups (rounded, at least one), in their order.

    Nested: of the same examples and seed, the 1 % lies inside the 10 %. Raises `ValueError` for a fraction outside
    (0, 1] or without examples.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], not {fraction}")
    if not examples:
        raise ValueError("no examples to take a fraction of")
    if fraction == 1:
        return examples if isinstance(examples, Examples) else tuple(examples)
    groups, group_of = _groups_of(examples)
    count = max(1, round(fraction * len(groups)))
    return _select(examples, _among(_order(groups, seed, "fraction")[:count], len(groups))[group_of])


def count_documents(examples: Sequence[Example]) -> int:
    """How many different documents the examples have."""
    return len(_groups_of(examples)[0]) if examples else 0


def cut_off(
    examples: Sequence[Example], shares: Mapping[Split, float], seed: int, name: str
) -> dict[Split, Sequence[Example]]:
    """Splits cut off the training examples: of each its share of the groups (rounded, at least one), and the rest as
    `train`. The same seed cuts the same groups.

    Raises `UserError` when nothing would be left to train on; `name` is the table's, for the message.
    """
    groups, group_of = _groups_of(examples)
    order = _order(groups, seed, "split")
    counts = {split: max(1, round(share * len(order))) for split, share in shares.items()}
    if sum(counts.values()) >= len(order):
        wanted = " and ".join(f"{count} for {split}" for split, count in counts.items())
        files = " and ".join(f"--{split}-file" for split in counts)
        raise UserError(
            f"{name}: it has {len(order)} different documents, too few to cut off {wanted}; give more data or {files}"
        )
    parts: dict[Split, Sequence[Example]] = {}
    start = 0
    for split, count in (*counts.items(), ("train", len(order))):
        parts[split] = _select(examples, _among(order[start : start + count], len(groups))[group_of])
        start += count
    return parts


def _groups_of(examples: Sequence[Example]) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """The different groups (G,), and for each example the place of its group among them (N,)."""
    groups = examples.groups if isinstance(examples, Examples) else np.array([example.group for example in examples])
    different, group_of = np.unique(groups, return_inverse=True)
    return different, group_of


def _order(groups: npt.NDArray[Any], seed: int, purpose: str) -> npt.NDArray[np.intp]:
    """The places of the groups by their `rank`, the lowest first."""
    ranks = bytearray(32 * len(groups))
    for place, group in enumerate(groups.flat):
        name = group if isinstance(group, str) else f"{group:016x}"
        ranks[32 * place : 32 * place + 32] = rank_bytes(name, seed, purpose)
    columns = np.frombuffer(ranks, dtype=">u8").astype(np.uint64).reshape(-1, 4).T
    return np.lexsort(columns[::-1])  # the last key is the first to look at


def _among(places: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.bool_]:
    chosen = np.zeros(count, dtype=bool)
    chosen[places] = True
    return chosen


def _select(examples: Sequence[Example], chosen: npt.NDArray[np.bool_]) -> Sequence[Example]:
    places = np.flatnonzero(chosen)
    return (
        examples.select(places) if isinstance(examples, Examples) else tuple(examples[int(place)] for place in places)
    )
