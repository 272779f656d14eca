"""Seeded choices of groups, never of pairs. A group's place in an order depends on its text, the seed and the purpose
only: not on other rows, the platform or the order of the file."""

import hashlib
import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence

from tuneoff.data.example import Example, Split
from tuneoff.errors import UserError


def rank(group: str, seed: int, purpose: str) -> int:
    """The place of a group in the order of a seed, uniform in 0 .. 2**256 - 1 (SHA-256)."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{seed}:{group}".encode()).digest())


def first_groups(examples: Iterable[Example], limit: int | None, seed: int) -> tuple[list[Example], int]:
    """The examples of the `limit` first groups in the order of the seed, and how many examples were left out.

    Nested: ten groups are among the twenty of the same seed. Examples keep their order. Memory is bounded by the
    groups that stay, so a small part of a large table is cheap.
    """
    if limit is None:
        return list(examples), 0
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


def take_fraction(examples: Sequence[Example], fraction: float, seed: int) -> tuple[Example, ...]:
    """The examples of `fraction` of the groups (rounded, at least one), in their order.

    Nested: of the same examples and seed, the 1 % lies inside the 10 %. Raises `ValueError` for a fraction outside
    (0, 1] or without examples.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], not {fraction}")
    order = _order((example.group for example in examples), seed, "fraction")
    if not order:
        raise ValueError("no examples to take a fraction of")
    chosen = set(order[: max(1, round(fraction * len(order)))])
    return tuple(example for example in examples if example.group in chosen)


def cut_off(
    examples: Sequence[Example], shares: Mapping[Split, float], seed: int, name: str
) -> dict[Split, list[Example]]:
    """Splits cut off the training examples: of each its share of the groups (rounded, at least one), and the rest as
    `train`. The same seed cuts the same groups.

    Raises `UserError` when nothing would be left to train on; `name` is the table's, for the message.
    """
    order = _order((example.group for example in examples), seed, "split")
    counts = {split: max(1, round(share * len(order))) for split, share in shares.items()}
    if sum(counts.values()) >= len(order):
        wanted = " and ".join(f"{count} for {split}" for split, count in counts.items())
        files = " and ".join(f"--{split}-file" for split in counts)
        raise UserError(
            f"{name}: it has {len(order)} different documents, too few to cut off {wanted}; give more data or {files}"
        )
    parts: dict[Split, list[Example]] = {split: [] for split in (*counts, "train")}
    names = itertools.chain.from_iterable(itertools.repeat(split, count) for split, count in counts.items())
    split_of = dict(zip(order, names, strict=False))
    for example in examples:
        parts[split_of.get(example.group, "train")].append(example)
    return parts


def _order(groups: Iterable[str], seed: int, purpose: str) -> list[str]:
    return sorted(set(groups), key=lambda group: rank(group, seed, purpose))
