"""Diagnostics: each check finds its fault, and a study without faults has no finding."""

import pytest

from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.run_record import Curve, Prediction, Record, TrainPoint, ValidationPoint
from tuneoff.results.study_state import DataFile, SearchCell, SearchFile
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec
from tuneoff.verdict.diagnostics import diagnose

Run = tuple[Record, RunOutputs]


def run(
    method: str,
    seed: int = 0,
    *,
    rouge: float = 30.0,
    loss: float = 2.0,
    train: tuple[float, ...] = (3.0, 2.5) * 15,
    later: float | None = None,
    text: str = "a text",
    scores: dict[str, float] | None = None,
    details: dict[str, object] | None = None,
) -> Run:
    trains = method != "zero_shot"
    losses = sorted(train, reverse=True) if train == (3.0, 2.5) * 15 else train
    points = tuple(
        TrainPoint(step=index, epoch=1, seconds=1, loss=value, learning_rate=1, grad_norm=1, tokens=1)
        for index, value in enumerate(losses)
    )
    checks = [loss] if later is None else [loss, later]
    record = Record(
        run_id="0",
        name=f"{method}-s{seed}",
        status="finished",
        spec=RunSpec(
            model=ModelSpec(),
            prompt=PromptSpec(),
            data=DataSpec(source="starter"),
            method=MethodSpec(name=method),
            seed=seed,
        ),
        started_at="",
        curve=Curve(
            train=points if trains else (),
            validation=tuple(ValidationPoint(step=1, epoch=1, seconds=1, loss=value) for value in checks),
            best_step=1,
            best_validation_loss=loss,
        ),
        scores={"rouge1": rouge, **(scores or {})},
        details={"moved_share": 1.0, **(details or {})},
    )
    rows = [Prediction(id="d", text=f"{text} {method}" if text else "", scores={"rouge1": rouge})]
    return record, RunOutputs.of(rows)


FAULTLESS = [run("zero_shot", rouge=25, loss=3.0), *(run("lora", seed, rouge=30 + seed / 10) for seed in range(3))]


def checks(*runs: Run, search: SearchFile | None = None) -> list[tuple[str, str]]:
    return [(finding.check, finding.where) for finding in diagnose(list(runs), search)]


def test_words_that_rouge_ignores_are_found() -> None:
    [found] = diagnose(FAULTLESS, None, DataFile(caution="half of it is Greek"))
    assert (found.where, found.message) == ("the test data", "half of it is Greek")
    assert not diagnose(FAULTLESS, None, DataFile())
    assert not diagnose(FAULTLESS), "no data.json"


def test_a_study_without_faults_has_no_finding() -> None:
    assert checks(*FAULTLESS) == []


@pytest.mark.parametrize(
    ("faulty", "check"),
    [
        (run("lora", details={"moved_share": 0.0}), "no training"),
        (run("lora", train=tuple(2 + index / 10 for index in range(30))), "training loss"),
        (run("lora", later=2.5), "overfitting"),
        (run("lora", details={"instruction_share": 0.4}), "instruction"),
        (run("lora", details={"first_place": {"norm_ratio": 7.5, "nearest_cosine": 1.0}}), "initial tokens"),
        (run("lora", details={"first_place": {"norm_ratio": 0.1, "nearest_cosine": 1.0}}), "initial tokens"),
        (run("lora", details={"first_place": {"norm_ratio": 1.0, "nearest_cosine": 0.2}}), "initial tokens"),
        (run("lora", rouge=20), "loss against score"),
        (run("lora", rouge=25), "loss against score"),  # it did not rise
    ],
)
def test_each_fault_is_found(faulty: Run, check: str) -> None:
    assert checks(FAULTLESS[0], faulty) == [(check, "lora-s0")]


def test_a_prompt_that_starts_near_the_embeddings_has_no_finding() -> None:
    started = run("soft_prompt", details={"first_place": {"norm_ratio": 0.8, "nearest_cosine": 1.0}})
    assert checks(FAULTLESS[0], started) == []


def test_a_soft_prompt_that_is_not_used_is_found() -> None:
    zero = run("zero_shot", rouge=25, loss=3.0)
    record, _ = run("soft_prompt", rouge=25)
    assert checks(zero, (record, zero[1])) == [("not used", "soft_prompt-s0")]


def test_repetition_is_found() -> None:
    record, _ = run("lora")
    rows = [
        Prediction(id=str(index), text=f"x{index}", scores={"rouge1": 30.0, "repetition": 0.8}) for index in range(4)
    ]
    assert checks(FAULTLESS[0], (record, RunOutputs.of(rows))) == [("repetition", "lora-s0")]


def test_an_outlier_among_seeds_is_found() -> None:
    runs = [run("lora", seed, rouge=value) for seed, value in enumerate((30.0, 30.1, 34.0))]
    assert checks(FAULTLESS[0], *runs) == [("seed", "lora")]


def test_runs_on_a_fraction_of_the_data_are_checked_too() -> None:
    def on_a_tenth(one: Run) -> Run:
        return one[0].model_copy(update={"spec": one[0].spec.model_copy(update={"fraction": 0.1})}), one[1]

    # Seeds are compared within their fraction, outputs with the only run of zero-shot.
    assert checks(*FAULTLESS, *(on_a_tenth(run("lora", seed, rouge=26 + seed / 10)) for seed in range(3))) == []
    worse = [on_a_tenth(run("lora", seed, rouge=value)) for seed, value in enumerate((26.0, 26.1, 20.0))]
    assert checks(*FAULTLESS, *worse) == [("loss against score", "lora-s2"), ("seed", "lora at 10 % of the data")]


def test_an_optimum_at_the_edge_of_the_search_is_found() -> None:
    cell = SearchCell(model="starter", method="lora", hyperparameter="learning_rate", chosen=0.01, on_edge=True)
    assert checks(*FAULTLESS, search=SearchFile(cells=(cell,))) == [("search edge", "lora")]
    tenth = cell.model_copy(update={"fraction": 0.1})
    close = cell.model_copy(update={"on_edge": False, "within_noise": (1e-3, 3e-3), "decided_by": "text"})
    assert checks(*FAULTLESS, search=SearchFile(cells=(close,))) == [("close settings", "lora")]
    assert checks(*FAULTLESS, search=SearchFile(cells=(tenth,))) == [("search edge", "lora at 10 % of the data")]


def test_scores_are_those_of_the_metric_of_the_study() -> None:
    lower = [run("zero_shot", loss=3.0, scores={"rougeL": 25.0}), run("lora", scores={"rougeL": 20.0})]
    [found] = diagnose(lower, metric="rougeL")
    assert "but ROUGE-L did not rise (25.0 to 20.0)" in found.message
    seeds = [run("lora", seed, scores={"rougeL": value}) for seed, value in enumerate((30.0, 30.1, 34.0))]
    [outlier] = diagnose([lower[0], *seeds], metric="rougeL")
    assert "its ROUGE-L is 34.0" in outlier.message


def test_a_fold_is_compared_with_zero_shot_on_its_own_documents() -> None:
    def in_fold(one: Run, fold: int) -> Run:
        record, rows = one
        data = DataSpec(train_file="x", folds=2, fold=fold)
        return record.model_copy(update={"spec": record.spec.model_copy(update={"data": data})}), rows

    zeros = [in_fold(run("zero_shot", text=f"text {fold}"), fold) for fold in (1, 2)]
    tuned = [(in_fold(run("lora"), fold)[0], zeros[1][1]) for fold in (1, 2)]
    found = [finding.check for finding in diagnose([*zeros, *tuned])]
    assert found.count("not used") == 1  # of the first fold, zero-shot wrote something else
