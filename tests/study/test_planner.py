"""From a study to its runs: pairing, ids from contents, final runs that follow from trials, and what is next."""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from support.planned import HASHES, completed, record_of, study_of
from tuneoff.errors import UserError
from tuneoff.methods import METHODS, defaults
from tuneoff.results.run_record import NUMERICS_VERSION, Record
from tuneoff.results.study_dir import StudyDir
from tuneoff.spec import DataSpec, ModelSpec, RunSpec, StudySpec, TrainSpec, json_hash
from tuneoff.study import planner, run_id, search
from tuneoff.study.planner import ContentHashes, PlannedRun, StudyPlan
from tuneoff.study.run_id import LOCATIONS, run_id_of
from tuneoff.study.search import Trial

RESULTS = Path(__file__).parents[2] / "results"


def runs_of(**settings: object) -> list[PlannedRun]:
    return list(planner.plan(study_of(**settings), HASHES, {}).runs)


def ids_of(**settings: object) -> set[str]:
    return {run.run_id for run in runs_of(**settings)}


# Runs and their ids


def test_seeds_are_paired_and_what_trains_nothing_runs_once() -> None:
    runs = runs_of(methods=("zero_shot", "lora", "full"), seeds=3)
    seeds = {
        name: [run.spec.seed for run in runs if run.spec.method.name == name] for name in ("zero_shot", "lora", "full")
    }
    assert seeds == {"zero_shot": [0], "lora": [0, 1, 2], "full": [0, 1, 2]}


def test_runs_on_all_the_data_come_first() -> None:
    """An interrupted study can be judged."""
    order = [run.spec.fraction for run in runs_of(fractions=(0.1, 0.5, 1.0))]
    assert set(order) == {0.1, 0.5, 1.0}
    assert order == sorted(order, reverse=True)


def test_every_hyperparameter_is_filled_in() -> None:
    [run] = runs_of(methods=("lora",), hyperparameters={"lora": {"r": 4}})
    assert run.spec.method.hyperparameters == {**defaults("lora"), "r": 4}


def test_a_hyperparameter_that_was_added_later_leaves_older_runs_their_ids() -> None:
    """The id of a run that was done before `soft_prompt` had these two."""
    later = {"keep_instruction": True, "residual_bottleneck": 0}
    [run] = runs_of(methods=("soft_prompt",))
    values = run.spec.method.hyperparameters
    assert later.items() <= values.items()
    before = {key: value for key, value in values.items() if key not in later}
    older = run.spec.model_copy(update={"method": run.spec.method.model_copy(update={"hyperparameters": before})})
    assert run_id_of(older, HASHES.models["starter"], HASHES.data) == run.run_id
    for key, value in (("keep_instruction", False), ("residual_bottleneck", 8)):
        assert ids_of(methods=("soft_prompt",), hyperparameters={"soft_prompt": {key: value}}) != {run.run_id}


def test_all_methods_leave_room_for_the_one_that_needs_most() -> None:
    runs = runs_of(methods=("zero_shot", "soft_prompt"), hyperparameters={"soft_prompt": {"num_virtual_tokens": 7}})
    assert {run.spec.reserved_tokens for run in runs} == {7}
    assert {run.spec.reserved_tokens for run in runs_of(methods=("zero_shot",))} == {0}


def test_folder_names_of_several_models_differ() -> None:
    assert [run.name for run in runs_of(methods=("full",))] == ["full-s0"]
    models = (ModelSpec(name="a/b"), ModelSpec(name="c/b"))
    assert [run.name for run in runs_of(methods=("full",), models=models)] == ["b-full-s0", "b.2-full-s0"]
    with pytest.raises(UserError, match="a/b is named twice"):
        runs_of(models=(models[0], models[0]))


def test_an_id_follows_from_settings_and_contents() -> None:
    before = ids_of()
    assert before == ids_of()
    assert before == ids_of(name="other")
    assert before == ids_of(hyperparameters={"lora": {"r": 16}})  # the default, spelt out
    assert not before & ids_of(train=TrainSpec(epochs=2))
    assert len(before & ids_of(hyperparameters={"lora": {"r": 4}})) == len(before) - 1
    for other in (ContentHashes("e" * 16, HASHES.models), ContentHashes(HASHES.data, {"starter": "z" * 16})):
        assert not before & {run.run_id for run in planner.plan(study_of(), other, {}).runs}


def test_an_id_does_not_depend_on_where_files_lie() -> None:
    one = ids_of(data=DataSpec(train_file="here/train.jsonl"))
    assert one == ids_of(data=DataSpec(train_file="there/train.jsonl"))
    assert one != ids_of(data=DataSpec(train_file="here/train.jsonl", document_column="body"))


def test_a_new_version_of_the_numerics_changes_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids_of()
    monkeypatch.setattr(run_id, "NUMERICS_VERSION", NUMERICS_VERSION + 1)
    assert not before & ids_of()


@pytest.mark.parametrize("name", ["coursework", "soft_prompt_epoch", "scitldr_a"])
def test_stored_studies_keep_their_ids(name: str) -> None:
    """The runs planned today from the spec and the records are exactly those that `plan.json` names, timing included.

    `scitldr_a` has runs of several versions of the numerics, which count by their ids.
    """
    stored = StudyDir(RESULTS / name).load()
    assert stored.spec is not None
    assert stored.plan.data is not None
    earlier: dict[str, int] | None = None
    if stored.plan.earlier_numerics is not None or stored.plan.numerics != NUMERICS_VERSION:
        versions = {record.run_id: record.provenance.numerics_version for record in stored.records}
        earlier = {run_id: version for run_id, version in versions.items() if version is not None}
    hashes = ContentHashes(
        stored.plan.data, stored.plan.models, earlier=earlier, train_examples=stored.data.train_examples
    )
    known = completed(stored.records)
    plan = planner.plan(stored.spec, hashes, known)
    timing = planner.timing_runs(plan.runs, hashes, known)
    assert plan.complete
    assert plan.missing(known) == ()
    assert [run.folder for run in (*plan.runs, *timing)] == list(stored.plan.runs or ())


def test_an_earlier_version_of_the_numerics_counts_by_id() -> None:
    now = NUMERICS_VERSION
    spec, *_ = [run.spec for run in runs_of()]
    older = run_id_of(spec, HASHES.models["starter"], HASHES.data, numerics=now - 2)
    kept = dataclasses.replace(HASHES, earlier={older: now - 2, "f" * 16: now - 1})
    assert kept.run_id(spec) == older
    assert HASHES.run_id(spec) != older
    assert dataclasses.replace(HASHES, earlier={}).run_id(spec) == HASHES.run_id(spec)


# Ask and tell


def test_a_run_is_done_when_its_record_says_that_it_ended() -> None:
    trial, *_ = runs_of(methods=("lora",), trials=1)
    final, *_ = runs_of()
    for run, done in ((trial, {"finished", "diverged"}), (final, {"finished"})):
        for status in ("running", "finished", "failed", "diverged", "interrupted"):
            record = record_of(run, status)
            assert planner.is_done(run, completed([record])) == (status in done)
        assert not planner.is_done(run, {})


def best_at(rate: float) -> Callable[[PlannedRun], float]:
    """A validation loss that is lowest at `rate`."""

    def loss_of(run: PlannedRun) -> float:
        value = run.spec.method.hyperparameters.get("learning_rate")
        return 1.0 if value is None else abs(math.log(float(value) / rate))  # type: ignore[arg-type]

    return loss_of


BEST_AT_THE_MIDDLE = best_at(1e-3)


def rounds_of(
    study: StudySpec, tell: Callable[[PlannedRun], Record], hashes: ContentHashes = HASHES
) -> tuple[list[list[PlannedRun]], dict[str, Record]]:
    """What is next, round by round, each run once, until nothing is; `tell` makes the record of a run."""
    known: dict[str, Record] = {}
    rounds = []
    while runs := [run for run in planner.next_runs(study, hashes, known) if run.run_id not in known]:
        rounds.append(runs)
        known = {**known, **completed([tell(run) for run in runs])}
    return rounds, known


def carried_out(study: StudySpec, loss_of: Callable[[PlannedRun], float] = BEST_AT_THE_MIDDLE) -> StudyPlan:
    _, known = rounds_of(study, lambda run: record_of(run, losses=loss_of(run)))
    return planner.plan(study, HASHES, known)


def test_final_runs_follow_from_the_refinement_trial() -> None:
    study = study_of(methods=("lora",), trials=3, seeds=2)
    rounds, known = rounds_of(study, lambda run: record_of(run, losses=best_at(1e-3)(run)))
    assert [[run.name for run in runs] for runs in rounds] == [
        ["lora-trial1", "lora-trial2", "lora-trial3"],
        ["lora-trial4"],
        ["lora-s0", "lora-s1"],
    ]
    assert planner.plan(study, HASHES, known).complete
    assert not planner.plan(study, HASHES, {}).complete
    assert planner.next_runs(study, HASHES, known) == ()


def test_texts_of_a_second_training_choose_between_the_two_best() -> None:
    study = study_of(methods=("zero_shot", "lora"), trials=3, choose_by="text")

    def tell(run: PlannedRun) -> Record:
        record = record_of(run, losses=best_at(1e-3)(run) + 0.5 * (run.spec.seed == search.SECOND_LOOK_SEED))
        written = run.spec.writes_validation
        return record.model_copy(update={"scores": {"rouge1": 10.0 * run.name.endswith("2")} if written else {}})

    rounds, known = rounds_of(study, tell)
    assert [[run.name for run in runs if run.spec.method.name == "lora"] for runs in rounds] == [
        ["lora-trial1", "lora-trial2", "lora-trial3"],
        ["lora-trial4"],
        ["lora-text1", "lora-text2"],
        ["lora-s0"],
    ]
    looks = [run for run in rounds[2] if run.spec.method.name == "lora"]
    assert all(run.spec.writes_validation and run.spec.role == "trial" for run in looks)
    assert {run.spec.seed for run in looks}.isdisjoint({run.spec.seed for runs in rounds[:2] for run in runs})
    plan = planner.plan(study, HASHES, known)
    assert plan.complete
    for cell in planner.search_file(study, HASHES, plan, known).cells:
        assert cell.decided_by == "text"
        assert [look.text_score for look in cell.second_looks] == [0.0, 10.0]
        assert cell.chosen == cell.second_looks[1].value
        best = sorted(cell.trials, key=lambda trial: trial.validation_loss or math.inf)[:2]
        assert [look.value for look in cell.second_looks] == [trial.value for trial in best]
        assert cell.seconds == 2.0 * (len(cell.trials) + 2)
    [final] = [run for run in plan.runs if run.name == "lora-s0"]
    assert final.spec.method.hyperparameters["learning_rate"] == looks[1].spec.method.hyperparameters["learning_rate"]


def test_by_default_specs_and_ids_are_those_from_before_texts_could_choose() -> None:
    [run] = planner.plan(study_of(methods=("lora",)), HASHES, {}).runs
    assert "writes_validation" not in run.spec.model_dump()
    assert "choose_by" not in study_of().model_dump()
    with pytest.raises(ValueError, match="set trials too"):
        study_of(choose_by="text")


def test_each_round_only_adds_runs() -> None:
    study = study_of(methods=("zero_shot", "lora", "full"), trials=2, fractions=(0.1, 1.0))
    rounds, known = rounds_of(study, lambda run: record_of(run, losses=best_at(1e-3)(run)))
    done = [run.run_id for runs in rounds for run in runs]
    assert len(done) == len(set(done))
    assert set(done) == {run.run_id for run in planner.plan(study, HASHES, known).runs}


@pytest.mark.parametrize("halving", [False, True])
def test_a_study_continues_after_every_run_as_if_it_had_not_been_interrupted(halving: bool) -> None:
    study = study_of(methods=("zero_shot", "lora"), trials=3, halving=halving, train=TrainSpec(max_steps=40))
    hashes = dataclasses.replace(HASHES, train_examples=400)

    def tell(run: PlannedRun) -> Record:
        loss = best_at(1e-3)(run)
        return record_of(run, losses={10: loss + 2, 20: loss + 1, 40: loss})

    rounds, known = rounds_of(study, tell, hashes)
    everything = [run for runs in rounds for run in runs]
    for count in range(len(everything)):
        there = {run.run_id: known[run.run_id] for run in everything[:count]}
        broken = everything[count]
        there[broken.run_id] = record_of(broken, "interrupted", losses={})
        following = planner.next_runs(study, hashes, there)
        assert broken in following
        assert not {run.run_id for run in following} & {run.run_id for run in everything[:count]}
        for _ in range(len(everything)):
            there |= completed([tell(run) for run in planner.next_runs(study, hashes, there)])
        assert there == known


@pytest.mark.parametrize("status", ["interrupted", "running"])
def test_a_trial_that_did_not_end_is_repeated_before_anything_follows(status: str) -> None:
    study = study_of(methods=("lora",), trials=2)
    first, second = planner.next_runs(study, HASHES, {})
    known = completed([record_of(first), record_of(second, status)])  # type: ignore[arg-type]
    assert planner.next_runs(study, HASHES, known) == (second,)


def test_a_failed_trial_is_repeated_but_does_not_hold_up_the_others() -> None:
    study = study_of(methods=("lora",), trials=2)
    first, second = planner.next_runs(study, HASHES, {})
    following = planner.next_runs(study, HASHES, completed([record_of(first), record_of(second, "failed")]))
    assert [run.name for run in following] == ["lora-trial2", "lora-trial3"]


def test_a_diverged_trial_counts_as_tried() -> None:
    study = study_of(methods=("lora",), trials=1)
    [run] = planner.next_runs(study, HASHES, {})
    known = completed([record_of(run, "diverged", losses={})])
    assert [each.name for each in planner.next_runs(study, HASHES, known)] == ["lora-trial2"]
    [group] = planner.plan(study, HASHES, known).searches
    assert group.refinement_reason == "every trial diverged: lower"


# Trials


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gets_the_same_number_of_trials(method: str) -> None:
    plan = carried_out(study_of(methods=(method,), trials=4))
    trials = [run for run in plan.runs if run.spec.role == "trial"]
    assert len(trials) == 5
    assert plan.complete
    assert len({run.run_id for run in trials}) == 5  # five different settings
    assert {run.spec.seed for run in trials} == {search.TRIAL_SEED}


def test_the_lowest_validation_loss_is_chosen() -> None:
    plan = carried_out(study_of(methods=("lora",), trials=3, seeds=2), best_at(5.5e-4))
    finals = [run for run in plan.runs if run.spec.role == "final"]
    assert [run.spec.seed for run in finals] == [0, 1]
    [group] = plan.searches
    assert finals[0].spec.method.hyperparameters["learning_rate"] == group.chosen
    tried = [trial.value for _, trial in group.tried]
    assert group.chosen == min(tried, key=lambda rate: abs(math.log(float(rate) / 5.5e-4)))  # type: ignore[arg-type]


def test_what_the_study_sets_is_not_searched() -> None:
    runs = runs_of(methods=("lora",), trials=3, hyperparameters={"lora": {"learning_rate": 1e-3}})
    assert {run.spec.role for run in runs} == {"final"}


def test_too_many_trials_for_a_list_are_refused() -> None:
    with pytest.raises(UserError, match="set --trials to 7 or less"):
        runs_of(methods=("zero_shot",), trials=8)


def test_every_fraction_is_searched_unless_the_study_says_otherwise() -> None:
    settings = {"methods": ("lora", "zero_shot"), "trials": 2, "fractions": (0.1, 1.0)}
    each = carried_out(study_of(**settings))
    assert sorted({(group.method, group.fraction) for group in each.searches}) == [
        ("lora", 0.1), ("lora", 1.0), ("zero_shot", 0.1), ("zero_shot", 1.0),
    ]  # fmt: skip
    full = carried_out(study_of(**settings, search_at="full"))
    assert {group.fraction for group in full.searches} == {1.0}
    small = [run for run in full.runs if run.spec.fraction < 1]
    # zero_shot has the setting that it has on all the data, so it writes the same texts
    assert {run.spec.method.name for run in small} == {"lora"}
    assert {run.spec.train.min_steps for run in small} == {50}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"trials": 3},
        {"fractions": (0.1, 0.5, 1.0), "seeds": 2},
        {"fractions": (0.1, 1.0), "seeds": 3, "trials": 2, "search_at": "full"},
        {"trials": 3, "choose_by": "text"},
    ],
)
def test_the_number_of_runs_is_known_beforehand(settings: dict[str, object]) -> None:
    spec = study_of(methods=tuple(METHODS), **settings)
    # zero_shot on smaller fractions, searched there and found to have the setting that it has on all the data
    unneeded = len(spec.fractions) - 1 if spec.trials and spec.search_at == "each" else 0
    assert planner.count(spec) == len(carried_out(spec).runs) + unneeded


def test_a_fraction_takes_no_more_steps_than_all_the_data() -> None:
    """160 examples: 20 steps. A floor of 50 would train longer on a tenth of them."""
    few, many = (
        {
            run.spec.fraction: run.spec.train.min_steps
            for run in planner.plan(
                study_of(fractions=(0.1, 1.0), trials=0), dataclasses.replace(HASHES, train_examples=examples), {}
            ).runs
        }
        for examples in (160, 4000)
    )
    assert (few, many) == ({0.1: 20, 1.0: None}, {0.1: 50, 1.0: None})


def test_fractions_include_all_the_data() -> None:
    with pytest.raises(ValueError, match="1 is missing"):
        study_of(fractions=(0.1, 0.5))


def test_a_schedule_follows_from_the_number_of_examples() -> None:
    hashes = dataclasses.replace(HASHES, train_examples=80, examples_at=lambda fraction, seed: 8 + seed)
    whole, small = (
        run.spec
        for run in planner.plan(
            study_of(methods=("lora",), fractions=(0.5, 1.0), train=TrainSpec(epochs=3)), hashes, {}
        ).runs
    )
    assert hashes.schedule(whole) == search.Schedule(30, frozenset({10, 20, 30}))
    # 8 examples are one step an epoch; a fraction takes as many steps as all the data
    assert hashes.schedule(small).steps == 30
    [untrained] = runs_of(methods=("zero_shot",))
    assert HASHES.schedule(untrained.spec) == search.Schedule(0, frozenset({0}))
    for spec in (whole, small):
        with pytest.raises(ValueError, match="is unknown"):
            HASHES.schedule(spec)


# Pruning

STEPS = 40  # rungs at 10 and 20
LOW, MIDDLE, HIGH = search.grid("lora", "learning_rate", 3)


class World:
    """Trials with known losses by rate: at the rungs and at the end. A rate without losses diverges."""

    def __init__(self, losses: Mapping[object, tuple[float, float, float]]) -> None:
        self.losses = losses

    def of(self, run: PlannedRun) -> tuple[float, float, float] | None:
        rate = run.spec.method.hyperparameters.get("learning_rate")
        return self.losses.get(rate) if rate is not None else (1.0, 1.0, 1.0)

    def cut_at(self, run: PlannedRun) -> int | None:
        seen = dict(zip((10, 20), self.of(run) or (), strict=False))
        return next((step for step, top in run.spec.cut_above if top is not None and seen and seen[step] > top), None)

    def tell(self, run: PlannedRun) -> Record:
        losses = self.of(run)
        if losses is None:
            return record_of(run, "diverged", losses={})
        cut_at = self.cut_at(run)
        seen = {step: loss for step, loss in zip((10, 20, STEPS), losses, strict=True) if step <= (cut_at or STEPS)}
        record = record_of(run, losses=seen, cut_at=cut_at)
        return record.model_copy(update={"curve": record.curve.model_copy(update={"best_validation_loss": losses[2]})})

    def rounds(self, **settings: object) -> tuple[list[list[PlannedRun]], StudyPlan]:
        """What is next, round by round, and the plan at the end."""
        spec = pruned_study(**settings)
        rounds, known = rounds_of(spec, self.tell, KNOWN_LENGTH)
        return rounds, planner.plan(spec, KNOWN_LENGTH, known)


KNOWN_LENGTH = dataclasses.replace(HASHES, train_examples=8 * STEPS)


def pruned_study(**settings: object) -> StudySpec:
    return study_of(**{"methods": ("lora",), "trials": 3, "halving": True, **settings})


def value_of(run: PlannedRun) -> object:
    return run.spec.method.hyperparameters["learning_rate"]


def test_trials_are_asked_for_one_by_one_and_the_earlier_ones_set_the_limits() -> None:
    beside = search.refinement_value("lora", "learning_rate", [Trial(LOW, 3.5), Trial(MIDDLE, 2.0), Trial(HIGH, 3.0)])[
        0
    ]
    world = World({MIDDLE: (3.0, 2.5, 2.0), LOW: (3.5, 0, 0), HIGH: (2.9, 2.6, 0), beside: (2.8, 2.4, 1.9)})
    rounds, plan = world.rounds()
    assert [len(runs) for runs in rounds] == [1, 1, 1, 1, 1]
    trials = [run for run in plan.runs if run.spec.role == "trial"]
    assert [value_of(run) for run in trials] == [MIDDLE, LOW, HIGH, beside]
    assert [run.name for run in trials] == [f"lora-trial{number}" for number in (1, 2, 3, 4)]
    assert [run.spec.cut_above for run in trials] == [
        ((10, None), (20, None)),
        ((10, 3.0), (20, 2.5)),
        ((10, 3.5), (20, 2.5)),  # the low rate was pruned at step 10: it has no loss at 20
        ((10, 3.0), (20, 2.6)),  # three or two earlier ones, the better half of four or three
    ]
    assert [world.cut_at(run) for run in trials] == [None, 10, 20, None]
    [group] = plan.searches
    assert group.chosen == beside
    assert [run.spec.cut_above for run in plan.runs if run.spec.role == "final"] == [()]


def test_a_diverged_trial_sets_no_limit() -> None:
    """The middle rate diverges, so the next trial has no limits, as the first one."""
    _, plan = World({LOW: (3.5, 3.0, 2.5), HIGH: (3.4, 3.1, 2.6)}).rounds()
    trials = [run for run in plan.runs if run.spec.role == "trial"]
    assert [run.spec.cut_above for run in trials[:3]] == [
        ((10, None), (20, None)),
        ((10, None), (20, None)),
        ((10, 3.5), (20, 3.0)),
    ]


def test_a_pruned_trial_is_never_chosen() -> None:
    """All orders of three losses at each rung; the best at the end is the one that was pruned, if any was."""
    for first, second in itertools.product(itertools.permutations((1.0, 2.0, 3.0)), repeat=2):
        rates = (MIDDLE, LOW, HIGH)
        world = World(dict(zip(rates, zip(first, second, (0.3, 0.2, 0.1), strict=True), strict=True)))
        _, plan = world.rounds()
        [group] = plan.searches
        taken = next(run for run, trial in group.tried if trial.value == group.chosen)
        assert plan.complete
        assert world.cut_at(taken) is None
        assert world.of(taken) is not None


def test_methods_have_their_rounds_together() -> None:
    rounds, _ = World({}).rounds(methods=("zero_shot", "lora", "full"))
    # Without training there are no steps to save: all trials are known at once, as without pruning.
    assert [run.name for run in rounds[0]] == [
        "zero_shot-trial1", "zero_shot-trial2", "zero_shot-trial3", "lora-trial1", "full-trial1",
    ]  # fmt: skip


def test_without_pruning_specs_and_ids_are_what_they_were() -> None:
    plain = carried_out(
        pruned_study(halving=False, methods=("zero_shot", "lora")), lambda run: float(int(run.run_id, 16) % 97)
    )
    assert plain.complete
    for run in plain.runs:
        settings = run.spec.model_dump(mode="json")
        assert settings.pop("cut_above") == []
        assert settings.pop("score") == {"words": "english"}
        for key in LOCATIONS:
            settings["data"].pop(key, None)
        settings["model"] = {key: settings["model"][key] for key in ("trust_remote_code", "precision")}
        before = {"spec": settings, "model": "a" * 16, "data": "d" * 16, "numerics": NUMERICS_VERSION}
        assert run.run_id == json_hash(before)
    assert [value_of(run) for run in plain.runs if run.name.startswith("lora-trial")][:3] == [LOW, MIDDLE, HIGH]
    rounds, _ = World({}).rounds(methods=("zero_shot", "lora"))
    assert {run.run_id for run in rounds[0] if run.spec.method.name == "zero_shot"} < {run.run_id for run in plain.runs}


def test_only_a_trial_can_be_pruned() -> None:
    run = World({}).rounds()[0][0][0]
    with pytest.raises(ValueError, match="for trials, not for a final run"):
        RunSpec.model_validate({**run.spec.model_dump(), "role": "final"})
    assert RunSpec.model_validate_json(run.spec.model_dump_json()) == run.spec


def test_what_a_record_says_of_a_trial() -> None:
    run = World({}).rounds()[0][0][0]
    losses = {10: 3.0, 15: 2.8, 20: 2.5}

    def trial(*records: Record) -> tuple[float, Mapping[int, float]]:
        [group] = planner.plan(pruned_study(), KNOWN_LENGTH, completed(records)).searches
        _, first = group.tried[0]
        return first.loss, first.rungs

    assert math.isnan(trial()[0])
    assert trial(record_of(run, losses=losses)) == (2.5, {10: 3.0, 20: 2.5})
    assert trial(record_of(run, losses={10: 3.0}, cut_at=10)) == (math.inf, {10: 3.0})
    for status in ("diverged", "failed"):
        assert trial(record_of(run, status, losses=losses)) == (math.inf, {})
    loss, rungs = trial(record_of(run, "interrupted", losses=losses))
    assert math.isnan(loss)
    assert rungs == {}


# Timing runs


def test_a_method_that_shared_the_machine_gets_a_timing_run() -> None:
    study = study_of(methods=("zero_shot", "lora", "full"), seeds=2, fractions=(0.5, 1.0))
    runs = planner.plan(study, HASHES, {}).runs
    alone = completed([record_of(run) for run in runs])
    assert planner.timing_runs(runs, HASHES, alone) == ()
    assert planner.timing_runs(runs, HASHES, {}) == ()
    for shared, names in (
        (lambda run: run.spec.method.name == "lora" and run.spec.seed == 1, ["lora-timing"]),
        (lambda run: run.spec.fraction < 1, []),
        (lambda run: True, ["zero_shot-timing", "lora-timing", "full-timing"]),
    ):
        known = completed([record_of(run, processes=2 if shared(run) else 1) for run in runs])
        found = planner.timing_runs(runs, HASHES, known)
        assert [run.name for run in found if run.spec.fraction == 1] == names
        for run in found:
            assert (run.spec.role, run.spec.seed, run.spec.train.max_steps) == ("timing", 0, 30)


# search.json


def test_search_json_says_what_was_tried_and_why() -> None:
    study = study_of(methods=("zero_shot", "lora"), trials=2)
    rounds, known = rounds_of(study, lambda run: record_of(run, losses=best_at(1e-3)(run)))
    trials = [run for runs in rounds[:2] for run in runs if run.spec.method.name == "lora"]
    plan = planner.plan(study, HASHES, known)
    _, cell = planner.search_file(study, HASHES, plan, known).cells
    assert (cell.method, cell.hyperparameter, cell.saved) == ("lora", "learning_rate", None)
    assert [trial.run for trial in cell.trials] == [run.folder for run in trials]
    assert {trial.status for trial in cell.trials} == {"finished"}
    assert cell.chosen == min(cell.trials, key=lambda trial: trial.validation_loss or 0).value
    assert cell.reserve_because

    started = completed([record_of(trials[0], "interrupted", losses={})])
    _, cell = planner.search_file(study, HASHES, planner.plan(study, HASHES, started), started).cells
    assert [(trial.status, trial.validation_loss) for trial in cell.trials] == [("interrupted", None), ("to do", None)]
    assert (cell.chosen, cell.on_edge, cell.reserve_because) == (None, None, None)


def test_search_json_of_stored_studies_is_what_is_computed_today() -> None:
    stored = StudyDir(RESULTS / "scitldr_a").load()
    assert stored.spec is not None
    assert stored.plan.data is not None
    earlier = {record.run_id: record.provenance.numerics_version or 0 for record in stored.records}
    hashes = ContentHashes(stored.plan.data, stored.plan.models, earlier, stored.data.train_examples)
    known = completed(stored.records)
    found = planner.search_file(stored.spec, hashes, planner.plan(stored.spec, hashes, known), known)
    before = json.loads((RESULTS / "scitldr_a" / "search.json").read_text(encoding="utf-8"))
    now = json.loads(found.model_dump_json())
    assert len(now["cells"]) == len(before["cells"])
    for cell, old in zip(now["cells"], before["cells"], strict=True):
        for trial, old_trial in zip(cell["trials"], old["trials"], strict=True):
            assert {key: trial[key] for key in old_trial} == old_trial
        assert (cell["method"], cell["fraction"], cell["chosen"]) == (old["method"], old["fraction"], old["chosen"])


def test_every_method_runs_in_every_fold_and_searches_there() -> None:
    study = study_of(methods=("zero_shot", "lora"), seeds=2, trials=1, data=DataSpec(train_file="x", folds=3))
    plan = carried_out(study)
    finals = [run for run in plan.runs if run.spec.role == "final"]
    assert {(run.spec.method.name, run.spec.data.fold, run.spec.seed) for run in finals} == {
        (name, fold, seed)
        for name, seeds in (("zero_shot", 1), ("lora", 2))
        for fold in (1, 2, 3)
        for seed in range(seeds)
    }
    assert {(group.method, group.fold) for group in plan.searches} == {
        (name, fold) for name in ("zero_shot", "lora") for fold in (1, 2, 3)
    }
    for group in plan.searches:  # what a fold is tested on has no part in the choice of its settings
        assert {run.spec.data.fold for run, _ in group.tried} == {group.fold}
    assert planner.count(study) == len(plan.runs)
    assert len({run.run_id for run in plan.runs}) == len(plan.runs)
    assert "lora-fold2-s1" in {run.name for run in plan.runs}
    assert "lora-fold3-trial1" in {run.name for run in plan.runs}


def test_a_fold_is_timed_once() -> None:
    study = study_of(methods=("lora",), data=DataSpec(train_file="x", folds=3))
    runs = planner.plan(study, HASHES, {}).runs
    done = {run.run_id: record_of(run, processes=2) for run in runs}
    assert [run.name for run in planner.timing_runs(runs, HASHES, done)] == ["lora-fold1-timing"]
