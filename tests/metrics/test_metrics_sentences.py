"""Where sentences end, and linear time for malicious texts."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneoff.metrics import split_sentences


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("We follow Smith et al. (2019). It works.", ["We follow Smith et al. (2019).", "It works."]),
        ("Models, e.g. BERT, win. Others, i.e. GPT, lose.", ["Models, e.g. BERT, win.", "Others, i.e. GPT, lose."]),
        ("It gains 3.5 points. Fig. 2 shows it.", ["It gains 3.5 points.", "Fig. 2 shows it."]),
        ("The answer is no. Then we stop, see no. 5 there.", ["The answer is no.", "Then we stop, see no. 5 there."]),
        ("J. R. Smith moved to the U.S. Army. He left.", ["J. R. Smith moved to the U.S. Army.", "He left."]),
        ("It holds for all x. We prove it.", ["It holds for all x.", "We prove it."]),
        ("It ended in 2019. 30 people came.", ["It ended in 2019.", "30 people came."]),
        ("1. First point. 2. Second point.", ["1. First point.", "2. Second point."]),
        ('He said "Go." She went. (It rained.) Done.', ['He said "Go."', "She went.", "(It rained.)", "Done."]),
        ("Wait... what? Yes... No.", ["Wait... what?", "Yes...", "No."]),
        ("The end.lower case goes on. so it is one.", ["The end.lower case goes on. so it is one."]),
        ("A wrapped\nline goes.\nA new one\n\nafter blank", ["A wrapped line goes.", "A new one", "after blank"]),
        ("Amanda: Hi!\r\nJerry: Hello", ["Amanda: Hi!", "Jerry: Hello"]),
        ("模型很好。我们赢了！是吗？是", ["模型很好。", "我们赢了！", "是吗？", "是"]),
        ("Größe zählt. Über alles.", ["Größe zählt.", "Über alles."]),
        ("", []),
        (" \n\t ", []),
        ("... ! ?", []),
        ("no mark at all", ["no mark at all"]),
    ],
)  # fmt: skip
def test_rule(text: str, found: list[str]) -> None:
    assert split_sentences(text) == found


@given(st.text(alphabet='aB1 .!?\n"()。…é\u2028', max_size=80))
def test_no_letter_or_digit_is_lost_and_sentences_are_clean(text: str) -> None:
    found = split_sentences(text)
    assert [c for c in "".join(found) if c.isalnum()] == [c for c in text if c.isalnum()]
    assert all(sentence == " ".join(sentence.split()) and sentence for sentence in found)


@pytest.mark.parametrize("piece", [".", ". ", "\n", "\n(", '."', "A. ", "a", ".(", "\n ", "。", "? ", "1. "])
def test_linear_time_for_malicious_texts(piece: str) -> None:
    started = time.process_time()
    split_sentences(piece * 100_000)
    assert time.process_time() - started < 4  # a quadratic rule takes minutes
