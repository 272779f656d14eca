"""ROUGE equals Google's rouge-score 0.1.2 exactly, under the dialect in the signature."""

import random
from importlib.metadata import version
from typing import Literal, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from tuneoff.metrics import RougeDialect, rouge, rouge_signature, split_sentences
from tuneoff.metrics.rouge import rouge1
from tuneoff.spec import RougeWords

TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
PEERS = {stemmer: rouge_scorer.RougeScorer(TYPES, use_stemmer=stemmer) for stemmer in (True, False)}
WORDS = (
    *("the", "a", "of", "model", "models", "modelling", "training", "trained", "Summaries", "summary", "relational"),
    *("conditional", "happily", "3.5", "1,000", "95%", "42", "x2", "don't", "co-operate", "naïve", "Ünïcödé"),
    *("İstanbul", "ﬁne", "straße", "模型", "данные", "😀", "\u200b", "--", "...", "!", ";"),
)


def random_text(rng: random.Random) -> str:
    """Mostly words that repeat, sometimes any code points, sometimes nothing."""
    kind = rng.random()
    if kind < 0.04:
        return rng.choice(["", " ", "\n", "\n\n", "...", "é", "0"])
    if kind < 0.12:
        return "".join(chr(rng.randrange(0xD800)) for _ in range(rng.randrange(40)))
    joint = [" "] * 8 + ["\n", ", "]
    return "".join(rng.choice(WORDS) + rng.choice(joint) for _ in range(rng.randrange(1, 18)))


def expected(prediction: str, references: list[str], stemmer: bool) -> dict[str, float]:
    """The documented rule, implemented again on the values of rouge-score."""
    rows = [
        {name: 100.0 * found.fmeasure for name, found in PEERS[stemmer].score(reference, prediction).items()}
        for reference in references
    ]
    best = rows[0]
    for row in rows[1:]:
        if row["rouge1"] > best["rouge1"]:
            best = row
    return best


def test_equals_rouge_score_on_random_pairs() -> None:
    assert version("rouge-score") == "0.1.2"
    rng = random.Random(20)
    nonzero = 0
    for trial in range(2200):
        prediction, reference = random_text(rng), random_text(rng)
        stemmer = trial % 2 == 0
        ours = rouge(prediction, [reference], RougeDialect(stemmer=stemmer))
        peer = expected(prediction, [reference], stemmer)
        assert {name: ours[name] for name in TYPES} == peer, (prediction, reference, stemmer)
        assert {name: ours[f"{name}_mean"] for name in TYPES} == peer
        nonzero += ours["rouge2"] > 0
    assert nonzero > 200  # most comparisons are not of zeros


@settings(max_examples=150, deadline=None)
@given(
    prediction=st.text(max_size=60),
    references=st.lists(st.text(alphabet="abc dé1.\n", max_size=40), min_size=1, max_size=3),
    stemmer=st.booleans(),
)
def test_equals_rouge_score_on_any_text(prediction: str, references: list[str], stemmer: bool) -> None:
    ours = rouge(prediction, references, RougeDialect(stemmer=stemmer))
    assert {name: ours[name] for name in TYPES} == expected(prediction, references, stemmer)


def test_all_four_values_come_from_the_reference_with_the_best_rouge1() -> None:
    # The first shares more words, the second more word pairs.
    references = ["d c b a e", "a b x y z"]
    ours = rouge("a b c d e", references, RougeDialect())
    assert ours["rouge1"] == pytest.approx(100.0)
    assert ours["rouge2"] == 0.0
    assert rouge("a b c d e", references[1:], RougeDialect())["rouge2"] == pytest.approx(25.0)
    assert ours["rouge1_mean"] == pytest.approx(70.0)
    assert ours["rouge2_mean"] == pytest.approx(12.5)


def test_a_tie_goes_to_the_earlier_reference() -> None:
    assert rouge("a b c", ["c b a", "a b c"], RougeDialect())["rouge2"] == 0.0
    assert rouge("a b c", ["a b c", "c b a"], RougeDialect())["rouge2"] == pytest.approx(100.0)


def test_single_reference_dialect_ignores_the_others() -> None:
    dialect = RougeDialect(multi_reference="first")
    assert rouge("a b", ["x y", "a b"], dialect) == rouge("a b", ["x y"], dialect)
    assert rouge1("a b", ["x y", "a b"], dialect) == 0.0


def test_stemmer_is_a_choice() -> None:
    assert rouge("running", ["runs"], RougeDialect(stemmer=True))["rouge1"] == pytest.approx(100.0)
    assert rouge("running", ["runs"], RougeDialect(stemmer=False))["rouge1"] == 0.0


def test_sentence_split_moves_only_rouge_lsum() -> None:
    prediction, reference = "Cats sleep. Dogs bark loudly.", "Dogs bark loudly. Cats sleep."
    newline = rouge(prediction, [reference], RougeDialect())
    punctuation = rouge(prediction, [reference], RougeDialect(sentence_split="punctuation"))
    assert newline["rougeLsum"] == newline["rougeL"]
    assert punctuation["rougeLsum"] == pytest.approx(100.0)
    for name in ("rouge1", "rouge2", "rougeL"):
        assert punctuation[name] == newline[name]


@settings(max_examples=150, deadline=None)
@given(prediction=st.text(alphabet="ab .!?\n。1)Zé", max_size=60), reference=st.text(alphabet="ab .\nZ1", max_size=40))
def test_punctuation_split_loses_no_word_and_keeps_line_breaks(prediction: str, reference: str) -> None:
    punctuation = rouge(prediction, [reference], RougeDialect(sentence_split="punctuation"))
    newline = rouge(prediction, [reference], RougeDialect())
    assert [punctuation[name] for name in TYPES[:3]] == [newline[name] for name in TYPES[:3]]


def test_punctuation_split_equals_rouge_score_on_texts_split_by_hand() -> None:
    prediction, reference = "One cat. Two dogs ran.\nlower line", "Two dogs. One cat ran."
    by_hand = PEERS[True].score("\n".join(split_sentences(reference)), "One cat.\nTwo dogs ran.\nlower line")
    ours = rouge(prediction, [reference], RougeDialect(sentence_split="punctuation"))
    assert ours["rougeLsum"] == 100.0 * by_hand["rougeLsum"].fmeasure


@settings(max_examples=100, deadline=None)
@given(prediction=st.text(max_size=40), references=st.lists(st.text(max_size=40), min_size=1, max_size=3))
def test_rouge1_alone_is_the_rouge1_of_all(prediction: str, references: list[str]) -> None:
    for dialect in (RougeDialect(), RougeDialect(stemmer=False, multi_reference="first")):
        assert rouge1(prediction, references, dialect) == rouge(prediction, references, dialect)["rouge1"]


@pytest.mark.parametrize("references", [[], (), "one text"])
def test_no_reference_is_refused(references: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one text"):
        rouge("a", references, RougeDialect())


def test_lone_surrogates_do_not_stop_it() -> None:
    assert rouge("a \ud800 b", ["a b"], RougeDialect())["rouge1"] == pytest.approx(100.0)


def test_signature_distinguishes_every_choice() -> None:
    choices: tuple[tuple[RougeWords, bool], ...] = (
        ("english", True),
        ("english", False),
        ("unicode", False),
        ("characters", False),
    )
    splits: tuple[Literal["newline", "punctuation"], ...] = ("newline", "punctuation")
    multi_references: tuple[Literal["best", "first"], ...] = ("best", "first")
    dialects = [
        RougeDialect(words, stemmer, split, multi)
        for words, stemmer in choices
        for split in splits
        for multi in multi_references
    ]
    lines = {rouge_signature(dialect) for dialect in dialects}
    assert len(lines) == len(dialects)
    assert rouge_signature(RougeDialect()) == (
        f"rouge-score-rs:{version('rouge-score-rs')}|stemmer:porter|lsum-sentences:newline"
        "|references:best-rouge1|f-measure:x100"
    )


@given(st.text(), st.sampled_from(get_args(RougeWords)))
def test_a_text_scores_full_points_against_itself_if_it_has_words(text: str, words: RougeWords) -> None:
    dialect = RougeDialect.of(words)
    assert bool(dialect.tokenizer.tokenize(text)) == (rouge(text, [text], dialect)["rouge1"] > 0)


@pytest.mark.parametrize("text", ["краткое изложение", "一个总结。", "ملخص"])
def test_other_scripts_count_if_chosen(text: str) -> None:
    scores = {words: rouge(text, [text], RougeDialect.of(words))["rouge1"] for words in get_args(RougeWords)}
    assert scores == {"english": 0, "unicode": 100, "characters": 100}


def test_words_of_any_script_are_counted_whole() -> None:
    one, other = "für die Prüfung", "für die Übung"
    assert rouge(one, [other], RougeDialect.of("unicode"))["rouge1"] == pytest.approx(200 / 3)
    # f, r, die, pr, fung against f, r, die, bung
    assert rouge(one, [other], RougeDialect.of("english"))["rouge1"] == pytest.approx(600 / 9)
    assert rouge("模型 好", ["模型 坏"], RougeDialect.of("characters"))["rouge1"] == pytest.approx(200 / 3)


def test_the_stemmer_is_for_english_only() -> None:
    assert [RougeDialect.of(words).stemmer for words in get_args(RougeWords)] == [True, False, False]
    with pytest.raises(ValueError, match="stemmer"):
        RougeDialect(words="unicode")
