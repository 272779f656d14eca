"""A set of digests that takes little memory: what cleaning has to remember of a million rows."""

import struct
from array import array

_FIRST_SLOTS = 1024
_TWO_WORDS = struct.Struct("<QQ")


class Keys:
    """A set of 16-byte digests in an open table: 32 to 64 bytes a key, where a set of `bytes` takes above 100.

    Digests are told apart by all their bits; the all-zero one counts as its neighbour, which no digest ever is.
    """

    def __init__(self) -> None:
        self._count = 0
        self._firsts = array("Q", bytes(8 * _FIRST_SLOTS))
        self._seconds = array("Q", bytes(8 * _FIRST_SLOTS))

    def __contains__(self, digest: bytes) -> bool:
        first, second = _words(digest)
        slot = self._slot(first, second)
        return bool(self._firsts[slot] or self._seconds[slot])

    def add(self, digest: bytes) -> bool:
        """Whether it was new."""
        first, second = _words(digest)
        slot = self._slot(first, second)
        if self._firsts[slot] or self._seconds[slot]:
            return False
        self._firsts[slot], self._seconds[slot] = first, second
        self._count += 1
        if 2 * self._count > len(self._firsts):
            self._grow()
        return True

    def _slot(self, first: int, second: int) -> int:
        """Where the key stands or, in an empty slot, would stand."""
        firsts, seconds = self._firsts, self._seconds
        last = len(firsts) - 1
        slot = first & last
        while (firsts[slot] != first or seconds[slot] != second) and (firsts[slot] or seconds[slot]):
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        old = self._firsts, self._seconds
        size = 8 * 2 * len(self._firsts)
        self._firsts, self._seconds = array("Q", bytes(size)), array("Q", bytes(size))
        for first, second in zip(*old, strict=True):
            if first or second:
                slot = self._slot(first, second)
                self._firsts[slot], self._seconds[slot] = first, second


def _words(digest: bytes) -> tuple[int, int]:
    first, second = _TWO_WORDS.unpack(digest)
    return first, second or int(not first)
