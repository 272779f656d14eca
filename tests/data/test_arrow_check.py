"""Offsets and indices of Arrow tables are inside their buffers; texts that are not UTF-8 are sound tables."""

import pyarrow as pa
import pytest

from tuneoff.data import arrow_check

BYTES = pa.array([b"a", b"\xff\xfe", b"c"])


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b", "c"]),
        BYTES.view(pa.string()),
        BYTES.cast(pa.large_binary()).view(pa.large_string()),
        BYTES.cast(pa.binary_view()).view(pa.string_view()),
        pa.DictionaryArray.from_arrays([0, None, 2], BYTES.view(pa.string())),
        pa.ListArray.from_arrays([0, 2, 3], BYTES.view(pa.string())),
    ],
    ids=lambda column: str(column.type),
)
def test_texts_that_are_not_utf8_are_sound_tables(column: pa.Array) -> None:
    batch = pa.record_batch({"a": column})
    arrow_check.check_batch(batch)
    assert arrow_check.unpacked_bytes(batch) >= 2


def test_an_index_beyond_the_dictionary_is_found() -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0, 7], pa.int8()), BYTES.view(pa.string()), safe=False)
    with pytest.raises(pa.ArrowInvalid, match="dictionary"):
        arrow_check.check_batch(pa.record_batch({"a": texts}))


def test_a_text_of_a_dictionary_counts_for_each_row() -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int8()), pa.array(["x" * 1000]))
    assert arrow_check.unpacked_bytes(pa.record_batch({"a": texts})) == 100_000
