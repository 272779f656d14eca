"""Which instructions ask for summaries."""

import pytest

from tuneoff.spec.task import task_of


@pytest.mark.parametrize(
    "instruction",
    [
        "Summarize the following text in one sentence.",
        "Summarise the {aspect}.",
        "SUMMARIZE",
        "Write a summary of this mail.",
        "Sum it up.",
        "TL;DR",
        "Fasse den Text in einem Satz zusammen.",
        "Schreibe eine Zusammenfassung.",
        "Écris un résumé.",
        "Escribe un resumen.",
        "Riassumi il testo.",
        "Напиши краткое содержание.",
        "请总结下面的文章。",
        "次の文章を要約してください。",
        "",
        " ",
    ],
)
def test_summaries(instruction: str) -> None:
    assert task_of(instruction) == "summary"


@pytest.mark.parametrize(
    "instruction",
    [
        "Write a subject line for this email.",
        "Answer the {question}.",
        "{instruction}",
        "Translate into German.",
        "Write the findings of this report.",
        "Assume that you are a lawyer. Which clause applies?",
        "Write a cover letter for this resume.",
        "What is the consumer complaining about?",
        "Schreibe eine Betreffzeile.",
        "写一个标题。",
    ],
)
def test_other_tasks(instruction: str) -> None:
    assert task_of(instruction) == "other"
