"""NaN or an infinity in loss, gradient, validation or logits, with any method: the run has diverged, and says where."""

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from support.study_results import differences
from support.warm_command import Role
from support.warm_study import WarmStudy
from tuneoff import cli, run
from tuneoff.engine import gradients, trainer
from tuneoff.engine.optimizer import MasterAdamW
from tuneoff.methods import METHODS, defaults
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Record
from tuneoff.spec import DataSpec, GenerateSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec, TrainSpec

Choose = Callable[[list[Any], int], list[Any]]
STEPS = 3  # of eight rows each
_AFTER_TRAINING = ("logits", "beams")
CASES = [
    (name, what)
    for name in METHODS
    for what in ("loss", "gradient", "validation", *_AFTER_TRAINING)
    if (METHODS[name].trains or what not in ("loss", "gradient")) and (name, what) != ("prefix_tuning", "beams")
]


@dataclass
class Broken:
    """A number of a run that is not finite: the `at`th loss, gradient, validation or forward pass of generation.

    The first forward pass of generation may be that of a prefix, whose logits are not used.
    """

    what: str
    at: int
    value: float
    count: int = 0

    def now(self) -> bool:
        """Whether this is the time."""
        self.count += 1
        return self.count == self.at

    def install(self, patch: pytest.MonkeyPatch) -> None:
        if self.what == "loss":
            real = gradients.batch_loss
            patch.setattr(gradients, "batch_loss", lambda *given: real(*given) * (self.value if self.now() else 1.0))
        elif self.what == "validation":
            look = trainer._validation_loss
            broken = lambda *given, **named: look(*given, **named) * (self.value if self.now() else 1.0)  # noqa: E731
            patch.setattr(trainer, "_validation_loss", broken)
        elif self.what == "gradient":
            patch.setattr(MasterAdamW, "step", self._broken_step(MasterAdamW.step))
        else:
            patch.setattr(run, "generate", self._broken_generate(vars(run)["generate"]))

    def _broken_step(self, real: Callable[..., float]) -> Callable[..., float]:
        def step(optimizer: MasterAdamW, *given: float) -> float:
            if self.now():
                found = next(master.grad for master in optimizer._masters if master.grad is not None)
                found.view(-1)[-1] = self.value
            return real(optimizer, *given)

        return step

    def _broken_generate(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def generate(adapted: Any, *given: Any, **named: Any) -> Any:
            def broken(_model: object, _inputs: object, output: Any) -> Any:
                if self.now():
                    output.logits[..., 3] = self.value
                return output

            handle = adapted.model.register_forward_hook(broken)
            try:
                return real(adapted, *given, **named)
            finally:
                handle.remove()

        return generate


@pytest.mark.parametrize(("name", "what"), CASES)
def test_a_number_that_is_not_finite_ends_the_run(name, what, tiny_model, tiny_data, tmp_path, monkeypatch, full):
    if not full and (name, what) not in random.Random(1).sample(CASES, 2):
        pytest.skip("one of the trials of `make faults`")
    draw = random.Random(f"{name} {what}")
    value = draw.choice((math.nan, math.inf, -math.inf) if what != "beams" else (math.nan, math.inf))
    if what == "logits":  # minus infinity at one token is a token that is never chosen
        value = draw.choice((math.nan, math.inf))
    trained = METHODS[name].trains
    least, most = (2, 8) if what in _AFTER_TRAINING else (1, STEPS if trained else 1)
    broken = Broken(what, draw.randint(least, most), value)
    broken.install(monkeypatch)
    spec = RunSpec(
        model=ModelSpec(name=str(tiny_model("gpt_neo")), precision="fp32"),  # it has biases, which BitFit needs
        prompt=PromptSpec(max_length=160),
        data=DataSpec.model_validate({f"{split}_file": str(path) for split, path in tiny_data.items()}),
        method=MethodSpec(name=name, hyperparameters=defaults(name)),
        train=TrainSpec(max_steps=STEPS, eval_steps=1),
        generate=GenerateSpec(max_new_tokens=8, batch_size=8, num_beams=2 if what == "beams" else 1),
        reserved_tokens=20,
    )
    record = run.run(spec, tmp_path, "id", "name")
    assert broken.count >= broken.at, "the fault did not happen"
    assert record.status == "diverged", record
    assert record.failure is not None
    last = STEPS if what in _AFTER_TRAINING and trained else broken.at if trained else 0
    assert "not finite" in record.failure.message
    named = re.search(r"step (\d+)", record.failure.message)
    assert named is not None
    # One step has several losses.
    assert int(named[1]) == last or (what == "loss" and 1 <= int(named[1]) <= last), record.failure.message
    last = int(named[1])
    check_finite(record, last if what != "validation" else last - 1)
    assert not RunDir(tmp_path).read_predictions()
    assert RunDir(tmp_path).read_record() == record


def check_finite(record: Record, most_steps: int) -> None:
    """What is kept is finite, and of the steps before."""
    losses = [*(point.loss for point in record.curve.train), *(point.loss for point in record.curve.validation)]
    assert all(map(math.isfinite, losses))
    assert all(point.step <= most_steps for point in record.curve.validation)
    assert record.curve.best_validation_loss is None or math.isfinite(record.curve.best_validation_loss)
    assert not record.scores


@pytest.mark.parametrize("what", ["loss", "gradient", "validation", "logits"])
def test_the_other_methods_are_as_if_nothing_had_happened(warm_flags, what, tmp_path, full):
    if not full:
        pytest.skip("one of the trials of `make faults`")
    study = WarmStudy.carried_out([*warm_flags, "--methods=zero_shot,lora,full"], tmp_path)

    def prepare(role: Role) -> None:
        if role == "run":
            real, patch = run.run, pytest.MonkeyPatch()

            def run_one(spec: RunSpec, *given: Any, **named: Any) -> Record:
                if spec.method.name == "lora":
                    Broken(what, 2, math.nan).install(patch)
                return real(spec, *given, **named)

            patch.setattr(run, "run", run_one)

    broken = study.command.carry_out(prepare)
    assert broken.code == cli.SOME_FAILED, broken.said
    assert "not finite" in broken.said
    changed = [line.partition(":")[0] for line in differences(dict(study.results), study.folder)]
    assert [name for name in changed if "lora" not in name] in ([], ["rating.html"])  # which shows what is compared
    assert study.finished().code == 0
    assert not study.faults()
