"""The table of metrics: every one is documented, and other packages can add theirs by an entry point."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.distributions import write_distribution
from tuneoff.errors import UserError
from tuneoff.metrics import registry
from tuneoff.metrics.registry import (
    BUILT_IN,
    ENTRY_POINT_GROUP,
    Metric,
    MetricRegistry,
    deciding_metric,
    score_by_other_packages,
)

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"

CODE = """
from tuneoff.metrics import Metric

def count_question_marks(text, document, references):
    return text.count("?") if text else None

QUESTIONS = Metric("questions", "Questions", "count", None, 1, "Question marks in the text", count_question_marks)
NAMESAKE = Metric("rouge1", "Another ROUGE-1", "points", True, 1, "The name is taken", count_question_marks)
WITHOUT_FUNCTION = Metric("plain", "Plain", "count", None, 1, "No function")

def fail(text, document, references):
    raise KeyError("no such\\nword")

FAILING = Metric("failing", "Failing", "count", None, 1, "Raises", fail)
INFINITE = Metric("infinite", "Infinite", "count", None, 1, "Not finite", lambda *_: float("inf"))
WORD = Metric("word", "Word", "count", None, 1, "A text", lambda *_: "many")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., MetricRegistry]:
    """`install("package-name", entry="OBJECT")`: a fresh registry that finds that package."""

    def add(package: str, **entry_points: str) -> MetricRegistry:
        folder = tmp_path / package
        module = package.replace("-", "_")
        targets = {name: f"{module}:{target}" for name, target in entry_points.items()}
        write_distribution(folder, package, ENTRY_POINT_GROUP, targets, CODE)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, module, raising=False)
        found = MetricRegistry()
        monkeypatch.setattr(registry, "METRICS", found)
        return found

    return add


def test_built_in_metrics_come_first_and_use_known_units() -> None:
    metrics = MetricRegistry()
    assert tuple(metrics.values())[: len(BUILT_IN)] == BUILT_IN
    assert len(metrics) == len(list(metrics))
    assert all(name == metric.name for name, metric in metrics.items())
    assert {metric.unit for metric in BUILT_IN} == {"points", "share", "words", "count"}
    assert len({metric.title for metric in BUILT_IN}) == len(BUILT_IN)
    assert "bertscore" not in metrics
    assert metrics.get("bertscore") is None


def test_docs_name_every_metric_with_its_unit_and_direction() -> None:
    better = {True: "higher", False: "lower", None: "neither"}
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (\w+) \| (\w+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(metric.name, metric.title, metric.unit, better[metric.higher_is_better]) for metric in BUILT_IN]


def test_docs_explain_every_metric() -> None:
    text = DOCS.read_text(encoding="utf-8")
    headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
    explained = {name for heading in headings for name in re.findall(r"`(\w+)`", heading)}
    assert explained == {metric.name for metric in BUILT_IN}
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        for part in ("Definition", "Formula", "Unit and direction", "Source", "Pitfalls"):
            assert f"- **{part}.**" in section, (section.splitlines()[0], part)


def test_a_metric_of_another_package_is_in_the_table_and_computed(install: Callable[..., MetricRegistry]) -> None:
    metrics = install("ask-metrics", questions="QUESTIONS")
    assert list(metrics)[-1] == "questions"
    assert metrics["questions"].title == "Questions"
    assert metrics["questions"].higher_is_better is None
    assert score_by_other_packages("Why? How?", "d", ["r"]) == {"questions": 2.0}
    assert score_by_other_packages("", "d", ["r"]) == {"questions": None}


def test_a_metric_of_another_package_is_in_every_score_and_mean(tmp_path: Path) -> None:
    write_distribution(tmp_path, "ask-metrics", ENTRY_POINT_GROUP, {"questions": "ask_metrics:QUESTIONS"}, CODE)
    program = """
import json, sys
from tuneoff.metrics import METRICS, means, score
assert "ask_metrics" not in sys.modules, "loaded before it was needed"
scores = score("Why? How?", "a document", ["a summary"])
found = [list(scores) == list(METRICS), scores["questions"], means([scores])["questions"], list(means([]))[-1]]
print(json.dumps(found))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, 2.0, 2.0, "questions"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("NOTHING_OF_THE_KIND", r"'entry' of the package bad-metrics cannot be loaded \(AttributeError: .*uninstall"),
        ("count_question_marks", r"'entry' of the package bad-metrics \(bad_metrics:count_question_marks\) is not a"),
        ("WITHOUT_FUNCTION", "is not a tuneoff.metrics.Metric with a score function"),
        ("NAMESAKE", "'rouge1' of the package bad-metrics has the same name as one of the package tuneoff"),
    ],
)
def test_a_bad_entry_point_is_one_error_that_names_the_package(
    install: Callable[..., MetricRegistry], target: str, message: str
) -> None:
    metrics = install("bad-metrics", entry=target)
    with pytest.raises(UserError, match=message) as caught:
        list(metrics)
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_imported_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_distribution(
        tmp_path, "broken-metrics", ENTRY_POINT_GROUP, {"a": "broken_metrics:A"}, "raise OSError('1\\n2')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"'a' of the package broken-metrics cannot be loaded \(OSError: 1 2\)"):
        len(MetricRegistry())


def test_two_packages_cannot_share_a_name(install: Callable[..., MetricRegistry]) -> None:
    install("first-metrics", questions="QUESTIONS")
    metrics = install("second-metrics", questions="QUESTIONS")
    with pytest.raises(UserError, match=r"'questions' of the package (first|second)-metrics has the same name as"):
        list(metrics)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("FAILING", r"'failing' failed \(KeyError: 'no such\\nword'\)"),
        ("INFINITE", "'infinite' returned inf, but a finite number or None was expected"),
        ("WORD", r"'word' failed \(ValueError: could not convert string to float: 'many'\)"),
    ],
)
def test_a_score_function_that_fails_is_one_error(
    install: Callable[..., MetricRegistry], target: str, message: str
) -> None:
    install("poor-metrics", entry=target)
    with pytest.raises(UserError, match=message):
        score_by_other_packages("a text", "a document", ["a summary"])


@pytest.mark.parametrize(("name", "digits"), [("two words", 1), ("", 1), ("fine", -1)])
def test_a_metric_of_no_use_is_refused(name: str, digits: int) -> None:
    with pytest.raises(ValueError, match="must"):
        Metric(name, "Title", "count", None, digits, "Description")


def test_the_search_for_entry_points_is_quick() -> None:
    list(MetricRegistry())  # once, so that the file system has what it needs
    started = time.process_time()
    list(MetricRegistry())
    assert time.process_time() - started < 0.1  # about 0.01 s on an idle core; a machine under load gets slack


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        *((spelling, "rougeL") for spelling in ("rougeL", "ROUGE-L", "rouge-l", "rouge_l", "rougel", "Rouge L")),
        *((spelling, "rougeLsum") for spelling in ("RougeLsum", "ROUGE-Lsum", "rouge_lsum")),
        *((spelling, "rouge1") for spelling in ("ROUGE-1", "rouge_1", "Rouge1")),
        *((spelling, "rouge2_mean") for spelling in ("rouge2_mean", "ROUGE-2 (mean)", "rouge-2-mean")),
    ],
)
def test_a_metric_is_known_in_every_usual_spelling(typed: str, name: str) -> None:
    assert deciding_metric(typed) == name


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("nonsense", "no metric 'nonsense'; use rouge1, rouge2, rougeL, rougeLsum, "),
        ("rouge3", "no metric 'rouge3'; use rouge1"),
        ("rouge", "no metric 'rouge'"),
        ("", "no metric ''"),
        ("length", "'length': a verdict needs a metric in which more is better; use rouge1"),
        ("copy-rate", "'copy-rate': a verdict needs a metric in which more is better; use rouge1"),
    ],
)
def test_what_decides_nothing_is_refused_with_the_names(typed: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        deciding_metric(typed)
    assert str(caught.value).startswith(words)


def test_every_metric_that_can_decide_has_a_spread_for_plans() -> None:
    assert {metric.name for metric in BUILT_IN if metric.paired_sd} == {
        metric.name for metric in BUILT_IN if metric.higher_is_better
    }
