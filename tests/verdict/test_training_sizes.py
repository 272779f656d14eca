"""How many training examples were read, from the records."""

from pathlib import Path

from support.verdict_study import edit_record, load, run_dirs, study_folder
from tuneoff.results.run_record import Curve, Record, TrainPoint
from tuneoff.verdict.training_sizes import TrainingSize, training_sizes


def trained(study: Path, steps: dict[str, int], fraction: float = 1.0) -> list[Record]:
    """The records of a study; the last step of each method, with batches of 8."""
    for folder in run_dirs(study):
        record = folder.read_record()
        last = steps.get(record.spec.method.name, 0)
        points = [TrainPoint(step=last, epoch=1, seconds=0, loss=1, learning_rate=1, grad_norm=1, tokens=1)]
        train = record.spec.train.model_copy(update={"batch_size": 8})
        spec = record.spec.model_copy(update={"train": train, "fraction": fraction})
        edit_record(folder, spec=spec, curve=Curve(train=tuple(points if last else ())))
    return load(study).records


def test_examples_that_no_step_reached_do_not_count(tmp_path: Path) -> None:
    records = trained(study_folder(tmp_path), {"lora": 50, "full": 40})
    assert training_sizes(records, [0.3, 1.0], 1988) == {
        0.3: TrainingSize(596, 596),  # nothing was trained there
        1.0: TrainingSize(1988, 400, 50),
    }


def test_examples_that_are_read_twice_count_once(tmp_path: Path) -> None:
    records = trained(study_folder(tmp_path), {"lora": 50, "full": 50}, fraction=0.05)
    assert training_sizes(records, [0.05], 1988) == {0.05: TrainingSize(99, 99, 50)}


def test_runs_that_did_not_finish_read_nothing(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    trained(study, {"lora": 50, "full": 90})
    for folder in run_dirs(study):
        if "full" in folder.name:
            edit_record(folder, status="diverged")
    assert training_sizes(load(study).records, [1.0], 1988)[1.0] == TrainingSize(1988, 400, 50)
