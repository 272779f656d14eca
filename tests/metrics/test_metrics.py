"""`score` computes every metric of one text; `means` leaves undefined values out."""

import subprocess
import sys
import time

import pytest

from tuneoff.metrics import METRICS, RougeDialect, means, rouge, score

DOCUMENT = "The model was trained on 100 papers in Paris. It writes one sentence for each of them."


def test_score_fills_the_whole_table() -> None:
    scores = score("It writes one sentence for 7 papers in London.", DOCUMENT, ["It writes a sentence."], stopped=False)
    assert list(scores) == list(METRICS)
    assert scores["length"] == 9
    assert scores["copy_rate"] == pytest.approx(5 / 9)
    assert scores["novelty"] == pytest.approx(3 / 8)  # "for 7", "7 papers", "in london"
    assert scores["repetition"] == 0
    assert scores["unsupported_numbers"] == 1
    assert scores["unsupported_names"] == 1
    assert scores["empty"] == 0
    assert scores["unstopped"] == 1
    assert rouge(
        "It writes one sentence for 7 papers in London.", ["It writes a sentence."], RougeDialect()
    ).items() <= (scores.items())


def test_dialect_reaches_rouge() -> None:
    references = ["x y", "trained models"]
    assert score("training model", DOCUMENT, references)["rouge1"] == pytest.approx(100.0)
    coursework = RougeDialect(stemmer=True, multi_reference="first")
    assert score("training model", DOCUMENT, references, coursework)["rouge1"] == 0


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_scores_zero_and_has_no_other_values(text: str) -> None:
    scores = score(text, DOCUMENT, ["a b"])
    undefined = {name for name, value in scores.items() if value is None}
    assert undefined == {
        "novelty", "copy_rate", "repetition", "unsupported_numbers", "unsupported_names", "unstopped",
    }  # fmt: skip
    assert scores["rouge1"] == scores["length"] == 0
    assert scores["empty"] == 1


def test_means_leave_undefined_values_out() -> None:
    rows = [score("", DOCUMENT, ["a"], stopped=True), score("a b c d e", DOCUMENT, ["a"], stopped=False)]
    found = means(rows)
    assert found["novelty"] == 1  # not 1/2
    assert found["length"] == pytest.approx(2.5)
    assert found["empty"] == found["unstopped"] == 0.5
    assert means([rows[0]])["novelty"] is None
    assert means([rows[1] | {"unstopped": None}])["unstopped"] is None


def test_the_mean_of_nothing_is_none() -> None:
    assert means([]) == dict.fromkeys(METRICS)


def test_means_keep_scores_of_other_systems() -> None:
    assert means([{"bertscore": 1.0}, {"bertscore": 2.0}])["bertscore"] == 1.5


def test_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, tuneoff.metrics; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_thousand_scores_take_about_a_second() -> None:
    document = " ".join(f"Sentence {n} speaks of model{n % 7} and reaches {n}.5 points in Paris." for n in range(20))
    text = "The model reaches 7.5 points in Paris and speaks of model3 at length, which nobody had said before."
    started = time.process_time()
    for n in range(1000):
        score(f"{text} {n}", document, [text, document[:120]])
    assert time.process_time() - started < 5  # 0.6 s on an idle core; a machine under load gets slack
