"""Metrics without a reference, on cases whose values can be counted by hand."""

import time

import pytest

from tuneoff.metrics.reference_free import (
    copy_rate,
    novelty,
    repetition,
    split_words,
    unsupported_names,
    unsupported_numbers,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("State-of-the-art GPT-2!", ["state", "of", "the", "art", "gpt", "2"]),
        ("Don't pay 3.50, or 1,000", ["don't", "pay", "3.50", "or", "1,000"]),
        ("don’t", ["don't"]),
        ("模型很好", ["模", "型", "很", "好"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("Straße ﬁne", ["strasse", "fine"]),
        (" ... ", []),
        ("a \ud800 b", ["a", "b"]),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert split_words(text) == found


def test_novelty() -> None:
    document = list("abcd")
    assert novelty(list("abc"), document) == 0
    assert novelty(list("abx"), document) == pytest.approx(1 / 2)
    assert novelty(list("ba"), document) == 1
    assert novelty(list("xyxyab"), document) == pytest.approx(3 / 4)  # xy yx ya | ab: distinct pairs
    assert novelty(["a"], document) is None
    assert novelty([], document) is None
    assert novelty(list("ab"), []) == 1


def test_copy_rate() -> None:
    document = list("abcdefg")
    assert copy_rate(list("abcde"), document) == 1
    assert copy_rate(list("abcxdef"), document) == 0  # runs of three do not count
    assert copy_rate(list("xabcdy"), document) == pytest.approx(4 / 6)
    assert copy_rate(list("abcdxdefg"), document) == pytest.approx(8 / 9)
    assert copy_rate(list("abcdcdef"), document) == 1  # two runs that touch
    assert copy_rate(list("bcdefxxxx"), document) == pytest.approx(5 / 9)  # runs that overlap count once
    assert copy_rate(list("abc"), document) is None
    assert copy_rate([], document) is None
    assert copy_rate(list("abcd"), []) == 0


def test_repetition() -> None:
    assert repetition(list("abcde")) == 0
    assert repetition(list("abcabc")) == pytest.approx(1 / 4)  # abc bca cab abc
    assert repetition(["a"] * 12) == pytest.approx(0.9)
    assert repetition(list("ab")) is None
    assert repetition([]) is None


@pytest.mark.parametrize(
    ("text", "document", "count"),
    [
        ("It gains 3.5 points on 2 sets", "3.50 points, two sets", 0),
        ("It gains 4 points", "It gains 3 points", 1),
        ("4 and 4 and 5", "nothing", 2),
        ("1000 people", "1,000 people", 0),
        ("1,000 people", "1 000 people", 1),
        ("95%", "95 percent", 0),
        ("135M parameters", "135 million parameters", 0),
        ("GPT2 and word2vec", "no models", 0),
        ("GPT-2", "no models", 1),
        ("3,5 points", "3.5 points", 0),
        ("0.50 and .5", "0.5 or 5", 0),
        ("007", "7", 0),
        ("version 1.2.0", "version 1.2", 1),
        ("one model", "", 0),
        ("1 model", "one model", 1),
        ("no digits", "", 0),
        ("", "3", None),
        ("...", "3", None),
    ],
)
def test_unsupported_numbers(text: str, document: str, count: int | None) -> None:
    assert unsupported_numbers(text, document) == count


@pytest.mark.parametrize(
    ("text", "document", "count"),
    [
        ("We use BERT here.", "Our model uses GPT.", 1),
        ("We use BERT here.", "bert is a model", 0),
        ("The model is small.", "nothing alike", 0),  # a capital at the start of a sentence is not a name
        ("In Paris and in Paris", "Rome", 1),
        ("It lies in Paris. London is larger.", "Rome", 1),  # London starts its sentence
        ("LoRA wins.", "full tuning", 1),
        ("iPhone sales", "phones", 1),
        ("Result: Better models win", "x", 0),
        ('He said: "Nothing"', "x", 0),
        ("Einstein-Podolsky", "einstein", 1),
        ("Vitamin C and plan B", "x", 0),  # single letters are not names
        ("Nach Köln", "KÖLN ist", 0),
        ("no name in it", "x", 0),
        ("模型很好", "x", None),
        ("12 34", "x", None),
        ("", "Paris", None),
    ],
)
def test_unsupported_names(text: str, document: str, count: int | None) -> None:
    assert unsupported_names(text, document) == count


@pytest.mark.parametrize("piece", ["a ", "1,", "A", "Ab ", "1", "İ", "'", "é.", "1.1 ", ": A"])
def test_linear_time_for_malicious_texts(piece: str) -> None:
    text = piece * 50_000
    started = time.process_time()
    own = split_words(text)
    novelty(own, own), copy_rate(own, own), repetition(own)
    unsupported_numbers(text, "x"), unsupported_names(text, "x")
    assert time.process_time() - started < 4  # a quadratic rule takes minutes
