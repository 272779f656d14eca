"""`DigestSet` behaves like a set of bytes."""

from hypothesis import given
from hypothesis import strategies as st

from tuneoff.data.digest_set import DigestSet

# Few different words, so that digests share their first half and their slots.
word = st.sampled_from([0, 1, 2, 1024, 2048, 2**63, 2**64 - 1]).map(lambda number: number.to_bytes(8, "little"))
digests = st.lists(st.tuples(word, word).map(b"".join), max_size=60)


@given(digests)
def test_a_set_of_digests(some: list[bytes]) -> None:
    some = [digest for digest in some if any(digest)]
    digest_set, known = DigestSet(), set()
    for digest in some:
        assert (digest in digest_set) == (digest in known)
        assert digest_set.add(digest) == (digest not in known)
        known.add(digest)
    assert all(digest in digest_set for digest in known)


def test_it_grows_and_forgets_nothing() -> None:
    digest_set = DigestSet()
    numbers = [number * 0x9E3779B97F4A7C15 % 2**128 for number in range(1, 20_001)]
    assert all(digest_set.add(number.to_bytes(16, "little")) for number in numbers)
    assert not any(digest_set.add(number.to_bytes(16, "little")) for number in numbers)
    assert (20_001).to_bytes(16, "little") not in digest_set
