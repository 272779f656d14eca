"""Memory for tests of its measurement."""

from mmap import mmap

MB = 1 << 20


def touch(megabytes: int) -> mmap:
    """Resident memory that comes from the system, and returns to it when freed.

    A block of the allocator may be one that an earlier test has freed, and that is resident all the time.
    """
    block = mmap(-1, megabytes * MB)
    block[::4096] = b"x" * len(range(0, len(block), 4096))
    return block
