"""Successive halving: who is cut, that specs follow from records, and that other studies stay as they are."""

import itertools
import json
import math
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from tuneoff.study.searches import Whole

from tuneoff.cli import main
from tuneoff.results.run_record import (
    Curve,
    PhaseResources,
    Reading,
    Record,
    Resources,
    ValidationPoint,
    read_record,
    write_record,
)
from tuneoff.spec import DataSpec, RunSpec, StudySpec, TrainSpec, content_hash
from tuneoff.study import halving, plan, planner, search, searches
from tuneoff.study.planner import Contents, Expansion, Halving, PlannedRun
from tuneoff.study.search import Trial

pytestmark = pytest.mark.xdist_group("halved study")

CONTENTS = Contents("d" * 16, {"starter": "a" * 16})
STEPS = 40  # rungs at 10 and 20


# The rule


@pytest.mark.parametrize(
    ("earlier", "highest"),
    [
        ([], None),
        ([2.0], 2.0),
        ([3.0, 1.0], 3.0),
        ([3.0, 1.0, 2.0], 2.0),
        ([1.0, 2.0, 3.0, 4.0], 3.0),
        ([2.0, 2.0], 2.0),
    ],
)
def test_the_better_half_goes_on(earlier: list[float], highest: float | None) -> None:
    assert halving.limit(earlier) == highest


def test_the_limit_is_the_rank() -> None:
    """300 draws with ties: what is not above the limit has fewer than half of all strictly better, and the reverse."""
    chance = random.Random(0)
    for _ in range(300):
        earlier = [float(chance.randint(0, 5)) for _ in range(chance.randint(1, 9))]
        own = float(chance.randint(0, 5))
        limit = halving.limit(earlier)
        assert limit is not None
        better = sum(loss < own for loss in earlier)
        assert (own <= limit) == (better < (len(earlier) + 1) / 2)


@pytest.mark.parametrize(
    ("steps", "warmup", "wanted"),
    [
        (50, 0.06, (13, 25)),
        (40, 0.3, (20,)),  # the quarter lies in the warm-up of 12 steps
        (40, 0.24, (20,)),  # the warm-up ends with step 10
        (40, 0.6, ()),
        (12, 0.06, (6,)),  # the quarter comes before step 5
        (8, 0.0, ()),
        (1, 0.0, ()),
    ],
)
def test_rungs_lie_behind_the_warm_up(steps: int, warmup: float, wanted: tuple[int, ...]) -> None:
    assert halving.rungs(steps, warmup) == wanted


def test_the_middle_comes_first() -> None:
    assert halving.from_the_middle((1, 2, 3, 4, 5)) == (3, 2, 4, 1, 5)
    assert halving.from_the_middle((1, 2, 3, 4)) == (2, 3, 1, 4)
    assert halving.from_the_middle((1,)) == (1,)


# The plan


class World:
    """Trials with known losses by rate: at the rungs and at the end. A rate without losses diverges."""

    def __init__(self, losses: Mapping[float, tuple[float, float, float]]) -> None:
        self.losses = losses
        self.done: set[str] = set()

    def of(self, run: PlannedRun) -> tuple[float, float, float] | None:
        rate = run.spec.method.hyperparameters.get("learning_rate")
        return self.losses.get(rate) if isinstance(rate, float) else (1.0, 1.0, 1.0)

    def cut_at(self, run: PlannedRun) -> int | None:
        seen = dict(zip((10, 20), self.of(run) or (), strict=False))
        return next((step for step, top in run.spec.cut_above if top is not None and seen and seen[step] > top), None)

    def loss_of(self, run: PlannedRun) -> float | None:
        if run.run_id not in self.done:
            return None
        found = self.of(run)
        return math.inf if found is None or self.cut_at(run) else found[2]

    def rungs_of(self, run: PlannedRun) -> dict[int, float]:
        found = self.of(run)
        if run.run_id not in self.done or found is None:
            return {}
        last = self.cut_at(run) or STEPS
        return {step: loss for step, loss in zip((10, 20), found, strict=False) if step <= last}

    def rounds(self, **settings: object) -> list[Expansion]:
        """Expansions until nothing new comes; between two of them all that is known is done."""
        spec = study(**settings)
        found = []
        while True:
            one = planner.expand(spec, CONTENTS, self.loss_of, Halving(lambda _spec: STEPS, self.rungs_of))
            found.append(one)
            before = len(self.done)
            self.done |= {run.run_id for run in one.runs}
            if len(self.done) == before:
                return found


def study(**settings: object) -> StudySpec:
    plain = {"data": DataSpec(source="starter"), "methods": ("lora",), "trials": 3, "halving": True}
    return StudySpec.model_validate({**plain, **settings})


def value_of(run: PlannedRun) -> object:
    return run.spec.method.hyperparameters["learning_rate"]


LOW, MIDDLE, HIGH = search.grid("lora", "learning_rate", 3)


def test_trials_go_one_by_one_and_each_knows_the_limits_that_the_earlier_ones_set() -> None:
    beside = search.reserve("lora", "learning_rate", [Trial(LOW, 3.5), Trial(MIDDLE, 2.0), Trial(HIGH, 3.0)])[0]
    assert isinstance(beside, float)
    world = World(
        {MIDDLE: (3.0, 2.5, 2.0), LOW: (3.5, 0, 0), HIGH: (2.9, 2.6, 0), beside: (2.8, 2.4, 1.9)}  # type: ignore[dict-item]
    )
    rounds = world.rounds()
    assert [len(one.runs) for one in rounds] == [1, 2, 3, 4, 5, 5]
    trials = [run for run in rounds[-1].runs if run.spec.role == "trial"]
    assert [value_of(run) for run in trials] == [MIDDLE, LOW, HIGH, beside]
    assert [run.name for run in trials] == [f"lora-trial{number}" for number in (1, 2, 3, 4)]
    assert [run.spec.cut_above for run in trials] == [
        ((10, None), (20, None)),
        ((10, 3.0), (20, 2.5)),
        ((10, 3.5), (20, 2.5)),  # the low rate was cut at step 10: it has no loss at 20
        ((10, 3.0), (20, 2.6)),  # three or two earlier ones, the better half of four or three
    ]
    assert [world.cut_at(run) for run in trials] == [None, 10, 20, None]
    [cell] = rounds[-1].cells
    assert cell.chosen == beside
    assert [run.spec.cut_above for run in rounds[-1].runs if run.spec.role == "final"] == [()]


def test_a_dead_trial_sets_no_limit() -> None:
    """The middle rate diverges, so the next trial is as the first; nobody is cut by what is dead."""
    world = World({LOW: (3.5, 3.0, 2.5), HIGH: (3.4, 3.1, 2.6)})
    trials = [run for run in world.rounds()[-1].runs if run.spec.role == "trial"]
    assert [run.spec.cut_above for run in trials[:3]] == [
        ((10, None), (20, None)),
        ((10, None), (20, None)),
        ((10, 3.5), (20, 3.0)),
    ]


def test_what_was_cut_is_never_chosen() -> None:
    """All orders of six losses at each rung, the best end on the trial that was cut: there is always another one."""
    for first, second in itertools.product(itertools.permutations((1.0, 2.0, 3.0)), repeat=2):
        rates = (MIDDLE, LOW, HIGH)
        world = World(dict(zip(rates, zip(first, second, (0.3, 0.2, 0.1), strict=True), strict=True)))  # type: ignore[arg-type]
        rounds = world.rounds()
        [cell] = rounds[-1].cells
        taken = next(run for run, trial in cell.tried if trial.value == cell.chosen)
        assert rounds[-1].complete
        assert world.cut_at(taken) is None
        assert world.of(taken) is not None


def test_methods_take_their_rounds_together() -> None:
    rounds = World({}).rounds(methods=("zero_shot", "lora", "full"))
    first = [run.name for run in rounds[0].runs]
    # What trains nothing has no steps to save: its trials are known at once, as without halving.
    assert first == ["zero_shot-trial1", "zero_shot-trial2", "zero_shot-trial3", "lora-trial1", "full-trial1"]


def test_without_halving_specs_and_names_are_what_they_were() -> None:
    def loss_of(run: PlannedRun) -> float:
        return float(int(run.run_id, 16) % 97)

    plain = planner.expand(study(halving=False, methods=("zero_shot", "lora")), CONTENTS, loss_of)
    assert plain.complete
    for run in plain.runs:
        settings = run.spec.model_dump(mode="json")
        assert settings.pop("cut_above") == []
        assert settings.pop("score") == {"words": "english"}
        for key in planner.LOCATIONS:
            settings["data"].pop(key)
        settings["model"] = {key: settings["model"][key] for key in ("trust_remote_code", "precision")}
        before = {"spec": settings, "model": "a" * 16, "data": "d" * 16, "numerics": planner.NUMERICS_VERSION}
        assert run.run_id == content_hash(before)
    assert [value_of(run) for run in plain.runs if run.name.startswith("lora-trial")][:3] == [LOW, MIDDLE, HIGH]
    halved = World({}).rounds(methods=("zero_shot", "lora"))[0]
    assert {run.run_id for run in halved.runs if run.spec.method.name == "zero_shot"} < {
        run.run_id for run in plain.runs
    }


def test_only_a_trial_can_be_cut() -> None:
    [run, *_] = World({}).rounds()[0].runs
    with pytest.raises(ValueError, match="for trials, not for a final run"):
        RunSpec.model_validate({**run.spec.model_dump(), "role": "final"})
    assert RunSpec.model_validate_json(run.spec.model_dump_json()) == run.spec


def test_neighbours_are_compared_where_both_were() -> None:
    """The reserve trial goes towards the better neighbour of the best, which may be one that was cut."""

    def goes_down(low: Trial, high: Trial) -> bool:
        value, _ = search.reserve("lora", "learning_rate", [low, Trial(MIDDLE, 1.0, {10: 2.0, 20: 1.5}), high])
        assert isinstance(value, float)
        assert isinstance(MIDDLE, float)
        return value < MIDDLE

    whole = {10: 3.0, 20: 2.0}
    assert goes_down(Trial(LOW, math.inf, {10: 2.9}), Trial(HIGH, 1.9, whole))
    assert not goes_down(Trial(LOW, math.inf, {10: 3.1}), Trial(HIGH, 1.9, whole))
    assert goes_down(Trial(LOW, math.inf, {10: 3.1, 20: 1.8}), Trial(HIGH, 1.9, whole))  # the last rung of both
    assert goes_down(Trial(LOW, math.inf, {10: 3.0}), Trial(HIGH, math.inf, {10: 3.1, 20: 2.2}))
    assert not goes_down(Trial(LOW, math.inf), Trial(HIGH, math.inf, {10: 9.0}))  # what diverged comes last
    assert goes_down(Trial(LOW, math.inf, {10: 9.0}), Trial(HIGH, math.inf))


# The records


def test_what_a_folder_says_of_a_trial(tmp_path: Path) -> None:
    [run] = World({}).rounds()[0].runs[:1]
    points = tuple(ValidationPoint(step=step, epoch=1, seconds=1, loss=4 - step / 10) for step in (10, 15, 20))

    def told(status: str, curve: Curve) -> tuple[float | None, dict[int, float]]:
        found = {"run_id": run.run_id, "name": run.name, "spec": run.spec, "started_at": "", "status": status}
        write_record(tmp_path / run.folder, Record.model_validate({**found, "curve": curve}))
        return plan.trial_loss(tmp_path, run), plan.trial_rungs(tmp_path, run)

    (tmp_path / run.folder).mkdir(parents=True)
    assert (plan.trial_loss(tmp_path, run), plan.trial_rungs(tmp_path, run)) == (None, {})
    whole = Curve(validation=points, best_validation_loss=2.5)
    assert told("finished", whole) == (2.5, {10: 3.0, 20: 2.0})
    assert told("finished", Curve(validation=points[:1], best_validation_loss=2.5, cut_at=10)) == (math.inf, {10: 3.0})
    assert told("diverged", whole) == (math.inf, {})
    assert told("failed", whole) == (math.inf, {})
    assert told("interrupted", whole) == (None, {})


def test_what_was_saved_is_counted_at_the_trials_own_pace() -> None:
    [run] = World({}).rounds()[0].runs[:1]
    nothing = Reading(value=None, unit="B", reason="none")

    def record(steps: int, checks: tuple[int, ...], train: float, evaluate: float, cut_at: int | None) -> Record:
        phases = {
            name: PhaseResources(
                wall_seconds=seconds, cpu_seconds=0, peak_memory_bytes=1, accelerator_peak_bytes=nothing, energy=nothing
            )
            for name, seconds in (("train", train), ("evaluate", evaluate))
        }
        point = {"epoch": 1, "seconds": 1, "loss": 1, "learning_rate": 1, "grad_norm": 1, "tokens": 1}
        curve = {
            "train": [{"step": step + 1, **point} for step in range(steps)],
            "validation": [{"step": step, "epoch": 1, "seconds": 1, "loss": 1} for step in checks],
            "cut_at": cut_at,
        }
        return Record.model_validate(
            {
                "run_id": "0", "name": "lora-trial1", "status": "finished", "spec": run.spec, "started_at": "",
                "curve": curve, "resources": Resources(phases=phases, peak_memory_bytes=1, threads=1),
            }
        )  # fmt: skip

    def whole(_spec: RunSpec) -> Whole:
        return Whole(40, frozenset({30, 40}))

    # 30 steps of 2 s and both checks of 5 s were spared, one look of 5 s was extra
    cut = record(10, (10,), 20.0, 5.0, 10)
    assert searches.saved([cut], whole) == {"steps": 30, "seconds": pytest.approx(30 * 2 + (2 - 1) * 5)}
    # a trial that went on only cost two looks of 5 s
    lasted = record(40, (10, 20, 30, 40), 80.0, 20.0, None)
    assert searches.saved([lasted], whole) == {"steps": 0, "seconds": pytest.approx(-10)}
    assert searches.saved([cut, lasted], whole) == {"steps": 30, "seconds": pytest.approx(55)}
    unmeasured = cut.model_copy(update={"resources": None})
    assert searches.saved([unmeasured, lasted], whole) == {"steps": 30, "seconds": None}


# The program


def command(model: Path, files: Mapping[str, Path], *flags: str) -> list[str]:
    small = ["--max-length=128", "--max-new-tokens=4", "--max-steps=12", "--min-steps=12", "--precision=fp32"]
    data = [f"--{split}-file={path}" for split, path in files.items()]
    return ["compare", f"--model={model}", *data, "--methods=zero_shot,lora", *small, "--trials=3", *flags]


@pytest.fixture(scope="module")
def halved_study(tiny_model, tiny_data, tmp_path_factory):  # type: ignore[no-untyped-def]
    """A halved study of a tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        folder = tmp_path_factory.mktemp("halving") / "study"
        assert main(command(tiny_model("gpt_neo"), tiny_data, "--halving", "--quiet", f"--output={folder}")) == 0
    return folder


def trials_of(folder: Path) -> dict[object, Record]:
    """LoRA's trials by rate, in the order in which they were begun."""
    found = [read_record(path.parent) for path in folder.glob("runs/lora-trial*/record.json")]
    found.sort(key=lambda record: record.name)
    return {record.spec.method.hyperparameters["learning_rate"]: record for record in found}


def test_a_real_study_cuts_where_its_limits_say(
    halved_study: Path, tiny_data: Mapping[str, Path], tmp_path: Path
) -> None:
    from tuneoff.run import run

    halved = trials_of(halved_study)
    assert len(halved) == 4
    assert list(halved)[:3] == [MIDDLE, LOW, HIGH]
    files = DataSpec.model_validate({f"{split}_file": str(path) for split, path in tiny_data.items()})
    assert any(record.curve.cut_at for record in halved.values()), "nothing was cut: this study would prove nothing"
    for record in halved.values():
        own = {point.step: point.loss for point in record.curve.validation}
        above = [step for step, limit in record.spec.cut_above if limit is not None and own.get(step, 0) > limit]
        assert record.status == "finished"
        assert above == ([record.curve.cut_at] if record.curve.cut_at else [])
        assert len(record.curve.train) == (record.curve.cut_at or 12)
        # As a full trial: the same schedule and the same steps; a look changes nothing.
        spec = record.spec.model_copy(update={"cut_above": (), "data": files})
        whole = run(spec, tmp_path / record.run_id, "id", "name").curve
        assert len(whole.train) == 12
        for one, other in zip(record.curve.train, whole.train, strict=False):
            assert one.loss == pytest.approx(other.loss, rel=1e-5)  # the study had one thread
            assert one.learning_rate == other.learning_rate
        if record.curve.cut_at is None:
            assert record.curve.best_validation_loss == pytest.approx(whole.best_validation_loss, rel=1e-5)
            assert record.curve.best_step == whole.best_step


def test_the_search_is_told_with_what_it_saved(halved_study: Path) -> None:
    records = trials_of(halved_study)
    cells = json.loads((halved_study / "search.json").read_text())["cells"]
    wordings, rates = (next(cell for cell in cells if cell["method"] == name) for name in ("zero_shot", "lora"))
    assert "saved" not in wordings
    assert records[rates["chosen"]].curve.cut_at is None
    assert [trial["cut_at"] for trial in rates["trials"]] == [record.curve.cut_at for record in records.values()]
    for trial in rates["trials"]:
        assert (trial["validation_loss"] is None) == (trial["cut_at"] is not None)
    steps = sum(trial["steps"] for trial in rates["trials"])
    assert rates["saved"]["steps"] == 4 * 12 - steps > 0
    assert isinstance(rates["saved"]["seconds"], float)
    page = (halved_study / "report.html").read_text()
    assert "cut at step 6" in page
    assert f"{rates['saved']['steps']} steps, about" in page


def test_an_interrupted_halved_study_goes_on(halved_study: Path, tiny_model, tiny_data, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """As if it had been stopped in its third trial: later runs are gone, that one is interrupted."""
    folder = tmp_path / "study"
    shutil.copytree(halved_study, folder)
    before = {path.parent.name: path.stat().st_mtime_ns for path in folder.rglob("record.json")}
    [third] = folder.glob("runs/lora-trial3-*")
    write_record(third, read_record(third).model_copy(update={"status": "interrupted", "curve": Curve()}))
    gone = [*folder.glob("runs/lora-trial4-*"), *folder.glob("runs/lora-s0-*")]
    for path in gone:
        shutil.rmtree(path)
    again = command(tiny_model("gpt_neo"), tiny_data, "--halving", "--quiet", f"--output={folder}")
    assert main(again) == 0
    after = {path.parent.name: path.stat().st_mtime_ns for path in folder.rglob("record.json")}
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {third.name, *(path.name for path in gone)}
    chosen = [json.loads((path / "search.json").read_text())["cells"][1]["chosen"] for path in (folder, halved_study)]
    assert chosen[0] == chosen[1]


def test_halving_without_anything_to_halve_is_refused(
    tiny_model, tiny_data, tmp_path: Path, capsys, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)

    def complaint(*flags: str) -> str:
        assert main(command(tiny_model("gpt_neo"), tiny_data, *flags)) == 2
        out, err = capsys.readouterr()
        assert not out
        assert err.count("\n") == 1, err
        return err

    assert "--halving: without trials there is nothing to cut; set trials too" in complaint("--halving", "--trials=0")
    assert "no trial of this study can be cut" in complaint("--halving", "--max-steps=8", "--min-steps=8")
    assert "no trial of this study can be cut" in complaint("--halving", "--methods=zero_shot")
    file = tmp_path / "mine.toml"
    file.write_text('methods = ["lora"]\nhalving = true\n[data]\nsource = "starter"\n')
    assert main(["compare", str(file)]) == 2
    assert "mine.toml, line 2: without trials" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_the_plan_says_where_trials_may_be_cut(tiny_model, tiny_data, tmp_path: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    assert main(command(tiny_model("gpt_neo"), tiny_data, "--halving", "--dry-run")) == 0
    assert "a bad one is cut at step 6" in capsys.readouterr().out
    assert main([*command(tiny_model("gpt_neo"), tiny_data, "--dry-run")]) == 0
    assert "cut" not in capsys.readouterr().out
    assert TrainSpec().warmup < 0.25  # else the quarter would never be a rung
