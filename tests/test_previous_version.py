"""Studies that the previous version wrote can be continued, reported and judged, with the same numbers.

`fixtures/previous_version` holds a study folder of that version, without one of its runs. `fixtures/judged` holds its
verdicts. The README of each folder lists the commands that made it.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scipy.special import ndtri
from scipy.stats import qmc

from tuneoff.cli import main
from tuneoff.results.study_dir import StudyDir
from tuneoff.stats import multiple_comparisons
from tuneoff.stats.multiple_comparisons import simultaneous_half_widths
from tuneoff.stats.variance_components import estimate_means, group_contributions, pairwise_differences
from tuneoff.verdict.scores import load_scores, tabulate

TESTS = Path(__file__).parent
FIXTURE = TESTS / "fixtures" / "previous_version"
JUDGED = TESTS / "fixtures" / "judged"
RESULTS = TESTS.parent / "results"

COMPARE = ["compare", "study.toml", "--output", "study", "--keep-earlier"]  # numerics have changed since
JUDGE = ["judge", "study", "--json"]

# Keys of `judge --json` that have another name today: name in the previous version -> name today.
RENAMED: dict[str, str] = {"may_lose": "regret_bound"}
# Keys whose value is text for people, which may be reworded, or a path.
WORDING = {"study", "title", "sentences", "notes", "why", "reason"}

COMPLAINT = re.compile(
    "damaged|(another|earlier|previous|older) version|--keep-earlier|caution|numerics|failed|Traceback|Warning",
    re.IGNORECASE,
)
# The missing run is done on the machine that runs the test; without the compiled kernels the verdict says so. And
# the summaries of the fixture are the first sentences of their documents, which this version notices. Its numerics are
# another version: texts of several lines, which the fixture does not have, keep their line breaks in training.
EXPECTED = ("kernels", "a reference stands word for word", "differ in tuneoff's numerics")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study folder in a copy of the fixture, which becomes the working directory: the paths are relative."""
    copy = tmp_path / "previous_version"
    shutil.copytree(FIXTURE, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the runs of the fixture were computed on a CPU
    return copy / "study"


@pytest.fixture
def expected() -> dict[str, Any]:
    """The run ids that the previous version planned, and the results of the run that was removed."""
    found: dict[str, Any] = read_json(FIXTURE / "expected.json")
    return found


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_texts(text: str) -> dict[str, str]:
    """Parse JSON lines into a mapping from `id` to `text`."""
    return {row["id"]: row["text"] for row in map(json.loads, text.splitlines())}


def complaints(text: str) -> list[str]:
    return [line for line in text.splitlines() if COMPLAINT.search(line) and not any(map(line.__contains__, EXPECTED))]


# Results that a mended fault changed: orders of times rest on one timing run, and orders by seed have no interval. The
# others follow from sharper intervals, and from a test of each claim instead of the intervals of all pairs.
MENDED = {
    "coursework": [
        "[0].claims[3].outcome: supported -> undecided",
        "[0].claims[4].outcome: supported -> in all seeds",
        "[0].claims[7].outcome: undecided -> supported",
    ],
    "scitldr_a": [
        "[0].claims[3].outcome: contradicted -> undecided",
        "[0].claims[4].outcome: supported -> in all seeds",
        "[0].data_sizes.crossovers[7].large: None -> last_layers",
        "[0].data_sizes.crossovers[7].outcome: undetermined -> throughout",
        "[0].data_sizes.crossovers[7].small: None -> last_layers",
    ],
}
# Seed variances have another estimate, which these numbers rest on. Means and differences stay as they were.
SHARPER = re.compile(r"\.(low|high|standard_error|df|smallest_detectable|smallest_margin|regret_bound): ")


# Training set sizes are numbers of examples that were read, so learning curves have another axis.
READ = {"coursework": [192, 192, 192], "scitldr_a": [99, 199, 400, 800]}
AXIS = re.compile(
    r"data_sizes\.(curves|crossovers)\[\d+\]\.(.*\.examples|estimate|gain_of_doubling|gain_low|gain_high|pays_until):"
)


def changes(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Yield each value of the verdict `before` that differs in `now`. Numbers must be equal to the last digit."""
    if isinstance(before, dict):
        for key in before.keys() - WORDING:
            today = RENAMED.get(key, key)
            if not isinstance(now, dict) or today not in now:
                yield f"{path}.{today}: missing"
            else:
                yield from changes(before[key], now[today], f"{path}.{today}")
    elif isinstance(before, list):
        if not isinstance(now, list) or len(now) != len(before):
            yield f"{path}: {before} -> {now}"
        else:
            for index, (one, other) in enumerate(zip(before, now, strict=True)):
                yield from changes(one, other, f"{path}[{index}]")
    elif before != now:
        yield f"{path}: {before} -> {now}"


def with_names_of_today(value: Any) -> Any:
    if isinstance(value, dict):
        return {RENAMED.get(key, key): with_names_of_today(item) for key, item in value.items()}
    return [with_names_of_today(item) for item in value] if isinstance(value, list) else value


def mostly_equal(texts: dict[str, str], before: dict[str, str]) -> bool:
    """True if at most one text differs: another processor may break a near tie between two tokens differently."""
    assert texts.keys() == before.keys()
    return sum(texts[name] != before[name] for name in before) <= 1


def test_the_plan_has_the_run_ids_of_the_previous_version(
    study: Path, expected: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMPARE, "--dry-run", "--json"]) == 0
    out, err = capfd.readouterr()
    assert not complaints(err)
    plan = json.loads(out)
    assert plan["data"]["caution"] is None
    runs = plan["runs"]
    missing = expected["missing"]["name"]
    done = {run["name"]: run["run_id"] for run in runs if run["done"]}
    assert done == {name: run_id for name, run_id in expected["run_ids"].items() if name != missing}
    assert [run["name"] for run in runs if not run["done"]] == [missing]


@pytest.mark.slow
def test_a_study_begun_with_the_previous_version_is_finished(
    study: Path, expected: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    records = {path: path.read_bytes() for path in study.glob("runs/*/record.json")}
    described = {name: read_json(study / name) for name in ("study.json", "plan.json")}

    assert main(["judge", "study"]) == 0
    out, err = capfd.readouterr()
    assert not complaints(out)
    assert not err
    assert main(["report", "study"]) == 0
    out, err = capfd.readouterr()
    assert not complaints(out)
    assert not err
    assert not re.search("damaged|(another|earlier) version", (study / "report.html").read_text(encoding="utf-8"))

    assert main(COMPARE) == 0
    out, err = capfd.readouterr()
    assert not complaints(out + err)
    missing = expected["missing"]
    [added] = set(study.glob("runs/*/record.json")) - records.keys()
    assert added.parent.name.startswith(f"{missing['name']}-")
    assert {path: path.read_bytes() for path in records} == records
    assert read_json(study / "study.json") == described["study.json"]
    plan = read_json(study / "plan.json")
    assert {name: plan[name] for name in ("data", "models")} == {
        name: described["plan.json"][name] for name in ("data", "models")
    }
    assert set(described["plan.json"]["runs"]) - set(plan["runs"]) == {
        f"{missing['name']}-{expected['run_ids'][missing['name']]}"
    }

    record = read_json(added)
    assert record["status"] == "finished"
    assert record["curve"]["best_validation_loss"] == pytest.approx(missing["best_validation_loss"], rel=1e-4)
    predictions = (added.parent / "predictions.jsonl").read_text(encoding="utf-8")
    assert mostly_equal(read_texts(predictions), missing["texts"])

    assert main(["judge", "study"]) == 0
    out, err = capfd.readouterr()
    assert not complaints(out)
    assert not err
    assert main([*COMPARE, "--dry-run", "--json"]) == 0
    assert all(run["done"] for run in json.loads(capfd.readouterr().out)["runs"])


@pytest.mark.parametrize("method", ["zero_shot", "soft_prompt", "lora", "full"])
def test_what_the_previous_version_trained_writes_the_same_texts(
    study: Path, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["summarize", "study", "test.jsonl", "--method", method, "--json"]) == 0
    out, err = capfd.readouterr()
    assert not complaints(err)
    [run] = re.findall(r"runs/(\S+)", err)
    before = read_texts((study / "runs" / run / "predictions.jsonl").read_text(encoding="utf-8"))
    assert mostly_equal(read_texts(out), before)


def test_the_unfinished_study_is_judged_as_before(study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(JUDGE) == 0
    found = json.loads(capfd.readouterr().out)
    different = changes(read_json(JUDGED / "previous_version.json"), found)
    assert [line for line in different if not AXIS.search(line) and not SHARPER.search(line)] == []
    for curve in found[0]["data_sizes"]["curves"]:
        assert [point["examples"] for point in curve["points"]] == [18, 32]  # its steps read 32 of 36


@pytest.mark.parametrize("name", sorted(path.name for path in RESULTS.iterdir() if path.is_dir()))
def test_published_studies_are_judged_as_before(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(RESULTS / name), "--json"]) == 0
    out, err = capfd.readouterr()
    assert not err
    found = json.loads(out)
    different = list(changes(read_json(JUDGED / f"{name}.json"), found))
    unexpected = [line for line in different if not AXIS.search(line) and not SHARPER.search(line)]
    assert sorted(unexpected) == MENDED.get(name, [])
    for curve in found[0]["data_sizes"]["curves"] if name in READ else ():
        assert [point["examples"] for point in curve["points"]] == READ[name]


@pytest.mark.parametrize("name", sorted(READ))
def test_the_earlier_estimate_of_seed_variances_gives_the_intervals_as_before(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = 4096  # as the earlier version drew them; others move an interval by half a percent
    monkeypatch.setattr(multiple_comparisons, "_DRAWS", draws)
    monkeypatch.setattr(
        multiple_comparisons,
        "_normal_draws",
        lambda methods: ndtri(qmc.Sobol(methods, scramble=True, rng=multiple_comparisons._SEED).random(draws).T),
    )
    study = StudyDir(RESULTS / name).load()
    [scores] = load_scores(study)
    table = tabulate(scores)
    means = estimate_means(group_contributions(table.values, table.group_of), table.varies)
    widths = simultaneous_half_widths(pairwise_differences(means))
    before = read_json(JUDGED / f"{name}.json")[0]["pairs"]
    assert [(pair["high"] - pair["low"]) / 2 for pair in before] == pytest.approx(widths.tolist(), rel=2e-3)


def test_a_changed_number_is_noticed() -> None:
    before = read_json(JUDGED / "coursework.json")
    now = with_names_of_today(before)
    assert list(changes(before, now)) == []
    now[0]["data_sizes"]["crossovers"][0]["band"][1]["low"] += 1e-12
    now[0]["claims"][0]["outcome"] = "supported"
    now[0]["methods"][0].pop("mean")
    now[0]["pairs"].pop()
    assert len(list(changes(before, now))) == 4
