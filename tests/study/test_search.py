"""Equal trials: what is tried, where the reserve trial goes, and that final runs follow from the trials alone."""

import dataclasses
import math
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.methods import METHODS
from tuneoff.spec import DataSpec, StudySpec
from tuneoff.study import plan, planner, search
from tuneoff.study.planner import Contents, Expansion, PlannedRun
from tuneoff.study.search import Trial

CONTENTS = Contents("d" * 16, {"starter": "a" * 16})


def study(**settings: object) -> StudySpec:
    return StudySpec.model_validate({"data": DataSpec(source="starter"), **settings})


def best_at(rate: float):  # type: ignore[no-untyped-def]
    """A validation loss that is lowest at `rate`."""

    def loss_of(run: PlannedRun) -> float | None:
        value = run.spec.method.hyperparameters.get("learning_rate")
        return 1.0 if value is None else abs(math.log(float(value) / rate))  # type: ignore[arg-type]

    return loss_of


def expanded(loss_of: object = None, **settings: object) -> Expansion:
    return planner.expand(study(**settings), CONTENTS, *([loss_of] if loss_of else []))  # type: ignore[list-item]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gets_the_same_number_of_trials(method: str) -> None:
    found = expanded(best_at(1e-3), methods=(method,), trials=4)
    trials = [run for run in found.runs if run.spec.role == "trial"]
    assert len(trials) == 5
    assert found.complete
    assert len({run.run_id for run in trials}) == 5  # five different settings
    assert {run.spec.seed for run in trials} == {search.TRIAL_SEED}


def test_final_runs_wait_for_the_reserve_trial() -> None:
    first = expanded(methods=("lora",), trials=3)
    assert [run.name for run in first.runs] == ["lora-trial1", "lora-trial2", "lora-trial3"]
    assert not first.complete
    known = {run.run_id for run in first.runs}
    loss_of = best_at(1e-3)
    second = expanded(lambda run: loss_of(run) if run.run_id in known else None, methods=("lora",), trials=3)
    assert [run.name for run in second.runs][3:] == ["lora-trial4"]
    assert not second.complete


def test_the_lowest_validation_loss_is_taken() -> None:
    found = expanded(best_at(5.5e-4), methods=("lora",), trials=3, seeds=2)
    finals = [run for run in found.runs if run.spec.role == "final"]
    assert [run.spec.seed for run in finals] == [0, 1]
    tried = [trial.value for _, trial in found.cells[0].tried]
    assert finals[0].spec.method.hyperparameters["learning_rate"] == found.cells[0].chosen
    assert found.cells[0].chosen == min(tried, key=lambda rate: abs(math.log(float(rate) / 5.5e-4)))  # type: ignore[arg-type]


def test_reserve_goes_outwards_from_an_edge_and_inwards_otherwise() -> None:
    rates = search.grid("lora", "learning_rate", 3)
    assert rates == (1e-4, 5.5e-4, 3e-3)

    def reserve(*losses: float) -> float:
        trials = [Trial(rate, loss) for rate, loss in zip(rates, losses, strict=True)]
        value = search.reserve("lora", "learning_rate", trials)[0]
        assert isinstance(value, float)
        return value

    assert reserve(1, 2, 3) < 1e-4
    assert reserve(3, 2, 1) > 3e-3
    assert 5.5e-4 < reserve(3, 1, 2) < 3e-3
    assert 1e-4 < reserve(2, 1, 3) < 5.5e-4
    assert reserve(math.inf, math.inf, math.inf) < 1e-4
    assert 1e-4 < reserve(2, 1, math.inf) < 5.5e-4


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].search])
def test_three_rates_of_two_trials_stay_inside_the_range(method: str) -> None:
    [(name, (low, high))] = METHODS[method].search.items()
    rates = search.grid(method, name, 2)
    assert all(isinstance(rate, float) for rate in rates)
    for losses, end in (((1.0, 2.0), low), ((2.0, 1.0), high)):
        tried = [Trial(rate, loss) for rate, loss in zip(rates, losses, strict=True)]
        assert search.reserve(method, name, tried)[0] == pytest.approx(end, rel=0.05)  # rates are rounded


def test_an_edge_is_one_of_three_values_or_more() -> None:
    def on_edge(*tried: tuple[float, float]) -> bool:
        return search.on_edge("lora", "learning_rate", [Trial(rate, loss) for rate, loss in tried])

    assert on_edge((1e-4, 3), (1e-3, 2), (1e-2, 1))
    assert on_edge((1e-4, 1), (1e-3, 2), (1e-2, 3))
    assert not on_edge((1e-4, 2), (1e-3, 1), (1e-2, 3))
    assert not on_edge((1e-4, 2), (1e-3, 1))  # of two each is the outermost, which says nothing


def test_what_the_study_sets_is_not_searched() -> None:
    found = expanded(methods=("lora",), trials=3, hyperparameters={"lora": {"learning_rate": 1e-3}})
    assert {run.spec.role for run in found.runs} == {"final"}


def test_too_many_trials_for_a_list_are_refused() -> None:
    with pytest.raises(UserError, match="set --trials to 7 or less"):
        expanded(methods=("zero_shot",), trials=8)


def test_every_share_is_searched_unless_said_otherwise() -> None:
    settings = {"methods": ("lora", "zero_shot"), "trials": 2, "fractions": (0.1, 1.0)}
    each = expanded(best_at(1e-3), **settings)
    assert sorted({(cell.method, cell.fraction) for cell in each.cells}) == [
        ("lora", 0.1), ("lora", 1.0), ("zero_shot", 0.1), ("zero_shot", 1.0),
    ]  # fmt: skip
    full = expanded(best_at(1e-3), **settings, search_at="full")
    assert {cell.fraction for cell in full.cells} == {1.0}
    small = [run for run in full.runs if run.spec.fraction < 1]
    # Zero-shot with the same wording writes the same texts on a smaller share.
    assert {run.spec.method.name for run in small} == {"lora"}
    assert {run.spec.train.min_steps for run in small} == {50}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"trials": 3},
        {"fractions": (0.1, 0.5, 1.0), "seeds": 2},
        {"fractions": (0.1, 1.0), "seeds": 3, "trials": 2, "search_at": "full"},
    ],
)
def test_the_number_of_runs_is_known_beforehand(settings: dict[str, object]) -> None:
    spec = study(methods=tuple(METHODS), **settings)
    assert planner.count(spec) == len(planner.expand(spec, CONTENTS, best_at(1e-3)).runs) + _spared(spec)


def _spared(spec: StudySpec) -> int:
    """Runs of zero-shot on smaller shares, searched there and found to be the same as on all the data."""
    return len(spec.fractions) - 1 if spec.trials and spec.search_at == "each" else 0


def test_a_share_takes_no_more_steps_than_all_the_data() -> None:
    """160 examples: 20 steps. A floor of 50 would train longer on a tenth of them."""
    few, many = (
        {
            run.spec.fraction: run.spec.train.min_steps
            for run in planner.expand(
                study(fractions=(0.1, 1.0), trials=0), dataclasses.replace(CONTENTS, examples=examples)
            ).runs
        }
        for examples in (160, 4000)
    )
    assert (few, many) == ({0.1: 20, 1.0: None}, {0.1: 50, 1.0: None})


def test_fractions_need_the_whole() -> None:
    with pytest.raises(ValueError, match="1 is missing"):
        study(fractions=(0.1, 0.5))


def test_a_diverged_trial_counts_as_tried(tmp_path: Path) -> None:
    from tuneoff.results.run_record import Record, write_record

    [run, *_] = expanded(methods=("lora",), trials=1).runs
    assert plan.trial_loss(tmp_path, run) is None
    (tmp_path / run.folder).mkdir(parents=True)
    record = Record(run_id=run.run_id, name=run.name, status="diverged", spec=run.spec, started_at="")
    write_record(tmp_path / run.folder, record)
    assert plan.trial_loss(tmp_path, run) == math.inf
    assert plan.is_done(tmp_path, run)
