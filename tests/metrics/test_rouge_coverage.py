"""How much of the references a dialect counts, and the caution where that is too little."""

import pytest

from tuneoff.metrics import RougeDialect, rouge_coverage

ENGLISH, UNICODE, CHARACTERS = (RougeDialect.of(words) for words in ("english", "unicode", "characters"))


def test_english_texts_are_counted_whole() -> None:
    found = rouge_coverage([["A model wins."], ["It is small.", "It is cheap."]], ENGLISH)
    assert (found.examples, found.unscorable, found.words, found.lost) == (2, 0, 9, 0)
    assert found.caution is None


def test_an_example_needs_one_reference_that_counts() -> None:
    found = rouge_coverage([["模型", "a model"], ["模型"], ["..."]], ENGLISH)
    assert (found.examples, found.unscorable) == (3, 2)
    assert str(found.caution).startswith("2 of 3 test examples have no summary with a word that this ROUGE counts")
    assert "--rouge-words unicode" in str(found.caution)


@pytest.mark.parametrize("dialect", [UNICODE, CHARACTERS])
def test_other_dialects_count_every_script(dialect: RougeDialect) -> None:
    assert rouge_coverage([["模型"], ["für die Modelle"]], dialect).caution is None
    found = rouge_coverage([["模型"], ["..."]], dialect)
    assert found.unscorable == 1
    assert str(found.caution).startswith("1 of 2 test examples have no summary with a letter or digit")


def test_words_with_other_letters_are_lost_to_the_english_dialect() -> None:
    found = rouge_coverage([["für die Modelle"]], ENGLISH)
    assert (found.words, found.lost) == (3, 1)
    assert str(found.caution).startswith("33.3 % of the words in test summaries have letters other than a-z")


def test_a_few_lost_words_need_no_caution() -> None:
    texts = [["word " * 199 + "naïve"], ["é"], *[["word"]] * 30]
    found = rouge_coverage(texts, ENGLISH)
    assert (found.lost, found.unscorable) == (2, 1)
    assert found.caution is None
