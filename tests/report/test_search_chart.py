"""The chart of learning rates that were tried."""

from pathlib import Path
from typing import Any

from support.report_study import load, read_summary
from tuneoff.report.figures import specification
from tuneoff.report.search_chart import learning_rate_sweeps
from tuneoff.report.study_charts import method_styles, study_charts
from tuneoff.results.study_state import PruningCheck, SearchCell, SearchFile, TrialResult

TRIALS = (
    TrialResult(value=1e-4, validation_loss=2.5, status="finished"),
    TrialResult(value=1e-3, validation_loss=2.1, status="finished"),
    TrialResult(value=1e-2, status="diverged"),
    TrialResult(value=3e-3, status="finished", cut_at=10, rungs=(PruningCheck(step=10, validation_loss=3.0),)),
)
LORA = SearchCell(model="starter", method="lora", hyperparameter="learning_rate", trials=TRIALS, chosen=1e-3)


def rows(cells: list[SearchCell], folder: Path) -> list[dict[str, Any]]:
    drawn = learning_rate_sweeps(cells, method_styles(read_summary(folder), load(folder)))
    assert drawn is not None
    drawn.to_dict(validate=True)  # the page does not check it
    return [row for one in specification(drawn)["datasets"].values() for row in one]


def test_each_trial_with_a_loss_is_drawn(rich_study: Path) -> None:
    found = rows([LORA], rich_study)
    assert [(row["rate"], row["loss"], row["chosen"], row["pruned"]) for row in found] == [
        (1e-4, 2.5, False, False),
        (1e-3, 2.1, True, False),
        (3e-3, 3.0, False, True),
    ]
    assert {row["method"] for row in found} == {"LoRA"}
    assert found[-1]["outcome"] == "pruned at step 10"


def test_only_learning_rates_at_all_the_data_are_drawn(rich_study: Path) -> None:
    small = LORA.model_copy(update={"fraction": 0.1, "method": "full"})
    wording = LORA.model_copy(update={"hyperparameter": "wording", "method": "zero_shot"})
    styles = method_styles(read_summary(rich_study), load(rich_study))
    assert {row["method"] for row in rows([small, LORA, wording], rich_study)} == {"LoRA"}
    assert learning_rate_sweeps([wording], styles) is None
    assert learning_rate_sweeps([LORA.model_copy(update={"trials": TRIALS[:1]})], styles) is None


def test_the_chart_is_among_those_of_the_study(rich_study: Path) -> None:
    summary = read_summary(rich_study).model_copy(update={"search": SearchFile(cells=(LORA,))})
    [chart] = [one for one in study_charts(summary, load(rich_study)) if one.name == "search"]
    assert chart.file == "learning_rates"
    assert ("LoRA", "0.01", "–", "diverged") in chart.numbers.rows
    assert ("LoRA", "0.001", "2.1000", "chosen") in chart.numbers.rows
