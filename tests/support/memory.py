"""Memory for tests of its measurement."""

MB = 1 << 20


def touch(megabytes: int) -> bytearray:
    """Allocate resident memory. Large blocks return to the system when freed."""
    block = bytearray(megabytes * MB)
    block[::4096] = b"x" * len(block[::4096])
    return block
