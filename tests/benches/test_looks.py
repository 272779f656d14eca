"""Simulated studies that stop at a look: what they save, within the 99.9 % binomial band of their coverage."""

import json

import pytest
from looks import main, simulate_looks
from simulation import Design, binomial_band, overlap_population

STUDIES = 40


@pytest.mark.parametrize(("truth", "least"), [("spread", 0.25), pytest.param("equal", -0.01, marks=pytest.mark.slow)])
def test_looks_save_runs_and_cover(truth: str, least: float) -> None:
    found = simulate_looks(STUDIES, overlap_population(), Design(300, 6, (0.6,)), truth)
    low, _ = binomial_band(0.95, STUDIES)
    assert found["coverage_at_the_stop"] >= low
    assert found["wrong_at_any_look"] <= 1 - low
    assert found["saved"] > least
    assert found["runs_once"] == 18
    if truth == "spread":
        assert found["excluded"] > found["excluded_once"] - 0.1
        assert found["best_stopped"] <= 1 - low


def test_the_command_prints_one_line_for_each_truth(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--studies", "2", "--groups", "40", "--seeds", "4", "--truth", "equal", "close"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["truth"], line["methods"], line["runs_once"]) for line in lines] == [
        ("equal", 6, 20),
        ("close", 6, 20),
    ]
