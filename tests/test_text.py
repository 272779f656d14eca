"""Text for people: lists, suggestions, durations, and untrusted text for a terminal."""

import contextlib
import math
import os
import pty

import pytest

from tuneoff.text import (
    LastingStream,
    did_you_mean,
    format_duration,
    join_words,
    parse_duration,
    parse_size,
    plural,
    sanitize,
)


def test_words_are_joined() -> None:
    assert [join_words("abc"[:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_nouns_follow_their_number() -> None:
    assert [plural(number, "run") for number in (0, 1, 2, 1200)] == ["0 runs", "1 run", "2 runs", "1,200 runs"]


def test_a_close_word_is_suggested_else_all_are_listed() -> None:
    assert did_you_mean("loar", ["lora", "full"]) == "; did you mean `lora`?"
    assert did_you_mean("xyz", ["lora", "full"]) == "; known are full, lora"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (7.6, "8 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


def test_durations_are_parsed() -> None:
    written = {"20m": 1200, "90s": 90, "1h30m": 5400, "1.5h": 5400, "15min": 900, "1h 5m": 3900}
    assert {text: parse_duration(text) for text in written} == written


@pytest.mark.parametrize("text", ["", "20", "m", "0m", "-5m", "1d", "1.2.3m", "5m1h", f"{9**400}h"])
def test_what_is_not_a_duration_is_none(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("16G", 16e9), ("512m", 512e6), ("1.5 GiB", 1.5e9), ("100", 100), ("3 apples", None), ("-1G", None), ("", None)],
)
def test_sizes_are_parsed(text: str, size: float | None) -> None:
    assert parse_size(text) == size


def test_control_codes_are_replaced() -> None:
    assert sanitize("a\x1b[2J\r\u202e\x9b31m\nb") == "a?[2J???31m?b"
    assert sanitize("a\n\tb\x07", keep="\n") == "a\n?b?"
    assert sanitize("Ünï \U0001f600") == "Ünï \U0001f600"


def test_a_stream_drops_what_a_terminal_that_is_gone_cannot_take() -> None:
    parent, child = pty.openpty()
    plain = os.fdopen(child, "w")
    stream = LastingStream(plain)
    assert stream.isatty()
    os.close(parent)
    print("lost", file=stream, flush=True)
    stream.flush()
    with pytest.raises(OSError, match="Input/output"):
        print("lost", file=plain, flush=True)
    with contextlib.suppress(OSError):
        plain.close()


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf])
def test_a_duration_that_is_no_number_has_words(seconds: float) -> None:
    assert format_duration(seconds) == "an unknown time"
