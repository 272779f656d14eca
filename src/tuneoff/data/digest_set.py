"""A set of digests that needs little memory: cleaning keeps one for every row and document."""

import struct
from array import array

_INITIAL_SLOTS = 1024
_TWO_WORDS = struct.Struct("<QQ")


class DigestSet:
    """A set of 16-byte digests in an open-addressing hash table.

    It takes 32 to 64 bytes a digest; a Python set of `bytes` takes more than 100. Digests are compared in full. The
    all-zero digest marks an empty slot, so it is stored as the digest with its last word 1.
    """

    def __init__(self) -> None:
        self._count = 0
        self._firsts = array("Q", bytes(8 * _INITIAL_SLOTS))
        self._seconds = array("Q", bytes(8 * _INITIAL_SLOTS))

    def __contains__(self, digest: bytes) -> bool:
        first, second = _split_digest(digest)
        slot = self._slot(first, second)
        return bool(self._firsts[slot] or self._seconds[slot])

    def add(self, digest: bytes) -> bool:
        """Add a digest. Returns True if it was not in the set before."""
        first, second = _split_digest(digest)
        slot = self._slot(first, second)
        if self._firsts[slot] or self._seconds[slot]:
            return False
        self._firsts[slot], self._seconds[slot] = first, second
        self._count += 1
        if 2 * self._count > len(self._firsts):
            self._grow()
        return True

    def _slot(self, first: int, second: int) -> int:
        """Index of the slot that holds the digest, or of the empty slot for it."""
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


def _split_digest(digest: bytes) -> tuple[int, int]:
    first, second = _TWO_WORDS.unpack(digest)
    return first, second or int(not first)
