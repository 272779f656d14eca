"""Seeded choices of groups, never of single pairs.

The rank of a group depends only on its text, the seed and the purpose. It does not depend on other rows, their order or
the platform.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tuneoff.data.example import Example, Split
from tuneoff.data.stored_examples import StoredExamples
from tuneoff.errors import UserError
from tuneoff.text import plural

if TYPE_CHECKING:
    import numpy.typing as npt


def group_rank(group: str, seed: int, purpose: str) -> int:
    """The rank of a group under a seed, uniform in 0 .. 2**256 - 1 (SHA-256). Lower ranks are chosen first."""
    return int.from_bytes(_group_rank_bytes(group, seed, purpose))


def _group_rank_bytes(group: str, seed: int, purpose: str) -> bytes:
    """`group_rank` as 32 bytes, which sort in the same order."""
    return hashlib.sha256(f"{purpose}:{seed}:{group}".encode()).digest()


def limit_documents(examples: Iterable[Example], limit: int | None, seed: int) -> tuple[Iterable[Example], int]:
    """Keep the examples of the `limit` groups with the lowest ranks, in their order.

    Also returns the number of examples left out. The choice is nested: ten groups are among the twenty of the same
    seed. Only the kept groups are in memory, so a small part of a large table is cheap. Without a limit, examples pass
    through.
    """
    if limit is None:
        return examples, 0
    kept: dict[str, list[tuple[int, Example]]] = {}
    worst_first: list[tuple[int, str]] = []  # heap with the kept group of the highest rank on top
    seen = 0
    for index, example in enumerate(examples):
        seen = index + 1
        group = example.group
        if group not in kept:
            entry = (-group_rank(group, seed, "cap"), group)
            if len(worst_first) < limit:
                heapq.heappush(worst_first, entry)
            elif entry > worst_first[0]:
                del kept[heapq.heapreplace(worst_first, entry)[1]]
            else:
                continue
            kept[group] = []
        kept[group].append((index, example))
    chosen = sorted((pair for pairs in kept.values() for pair in pairs), key=lambda pair: pair[0])
    return [example for _, example in chosen], seen - len(chosen)


def limit_stored_documents(examples: StoredExamples, limit: int | None, seed: int) -> tuple[StoredExamples, int]:
    """`limit_documents` for examples on disk: the same choice, without reading them."""
    if limit is None:
        return examples, 0
    groups, group_index = _unique_groups(examples)
    chosen = _mask(_by_rank(groups, seed, "cap")[:limit], len(groups))[group_index]
    kept = examples.select(np.flatnonzero(chosen))
    return kept, len(examples) - len(kept)


def take_fraction(examples: Sequence[Example], fraction: float, seed: int) -> Sequence[Example]:
    """The examples of a fraction of the groups (rounded, at least one), in their order.

    The choice is nested: with the same examples and seed, the 1 % is part of the 10 %. Raises `ValueError` for a
    fraction outside (0, 1] or for no examples.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], not {fraction}")
    if not examples:
        raise ValueError("no examples to take a fraction of")
    if fraction == 1:
        return examples if isinstance(examples, StoredExamples) else tuple(examples)
    groups, group_index = _unique_groups(examples)
    count = max(1, round(fraction * len(groups)))
    return _select(examples, _mask(_by_rank(groups, seed, "fraction")[:count], len(groups))[group_index])


def take_documents(examples: Sequence[Example], count: int, seed: int) -> Sequence[Example]:
    """The examples of the `count` groups with the lowest ranks, in their order: those that `limit_documents` keeps."""
    if not examples:
        return examples
    groups, group_index = _unique_groups(examples)
    return _select(examples, _mask(_by_rank(groups, seed, "cap")[:count], len(groups))[group_index])


def count_documents(examples: Sequence[Example]) -> int:
    """The number of different documents."""
    return len(_unique_groups(examples)[0]) if examples else 0


def hold_out(
    examples: Sequence[Example], sizes: Mapping[Split, float], seed: int, name: str
) -> dict[Split, Sequence[Example]]:
    """Split training examples: each split gets its fraction of the groups (rounded, at least one), or, where its size
    is an integer, so many groups.

    The remaining groups are `train`. The same seed gives the same split. Raises `UserError` if no group would remain;
    `name` is the name of the table, for the message.
    """
    groups, group_index = _unique_groups(examples)
    order = _by_rank(groups, seed, "split")
    counts = {
        split: size if isinstance(size, int) else max(1, round(size * len(order))) for split, size in sizes.items()
    }
    if sum(counts.values()) >= len(order):
        wanted = " and ".join(f"{count} for {split}" for split, count in counts.items())
        files = " and ".join(f"--{split}-file" for split in counts)
        have = f"it has {plural(len(order), 'different document')}"
        if len(order) == 1 and len(examples) > 1:
            have = f"the document of all its {len(examples)} rows is {examples[0].document[:60]!r}"
        raise UserError(f"{name}: {have}, too few to hold out {wanted}; give more data or {files}")
    parts: dict[Split, Sequence[Example]] = {}
    start = 0
    for split, count in (*counts.items(), ("train", len(order))):
        parts[split] = _select(examples, _mask(order[start : start + count], len(groups))[group_index])
        start += count
    return parts


def fold_of(
    examples: Sequence[Example], folds: int, fold: int, validation: float, seed: int, name: str
) -> dict[Split, Sequence[Example]]:
    """The splits of one part of a cross-validation, numbered from 1: its documents are the test split.

    Parts differ by at most one group, and each group is in one part. Of the other groups, `validation` (a fraction, or
    a number of groups) is held out as in `hold_out`. Raises `UserError` if there are fewer groups than parts; `name` is
    the name of the table, for the message.
    """
    groups, group_index = _unique_groups(examples)
    if len(groups) < folds:
        raise UserError(f"{name}: it has {plural(len(groups), 'different document')}, too few for {folds} folds")
    own = _mask(_by_rank(groups, seed, "fold")[fold - 1 :: folds], len(groups))[group_index]
    rest = hold_out(_select(examples, ~own), {"validation": validation}, seed, name)
    return {"test": _select(examples, own), **rest}


def _unique_groups(examples: Sequence[Example]) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """The different groups (G,) and, for each example, the index of its group among them (N,)."""
    if isinstance(examples, StoredExamples):
        groups: npt.NDArray[Any] = examples.groups
    else:
        groups = np.array([example.group for example in examples])
    unique, group_index = np.unique(groups, return_inverse=True)
    return unique, group_index


def _by_rank(groups: npt.NDArray[Any], seed: int, purpose: str) -> npt.NDArray[np.intp]:
    """Indices of the groups in ascending order of `group_rank`."""
    ranks = bytearray(32 * len(groups))
    for index, group in enumerate(groups.flat):
        name = group if isinstance(group, str) else f"{group:016x}"
        ranks[32 * index : 32 * index + 32] = _group_rank_bytes(name, seed, purpose)
    columns = np.frombuffer(ranks, dtype=">u8").astype(np.uint64).reshape(-1, 4).T
    return np.lexsort(columns[::-1])  # `lexsort` compares its last key first


def _mask(indices: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(count, dtype=bool)
    mask[indices] = True
    return mask


def _select(examples: Sequence[Example], mask: npt.NDArray[np.bool_]) -> Sequence[Example]:
    indices = np.flatnonzero(mask)
    if isinstance(examples, StoredExamples):
        return examples.select(indices)
    return tuple(examples[int(index)] for index in indices)
