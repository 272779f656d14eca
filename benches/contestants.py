"""One way of training, in a process of its own: `python contestants.py JOB` with a `Job` as JSON.

Processes keep peak memories apart. They take turns: the parent writes `step`, `longest` (a step on the batch of the
epoch that needs the most memory), or `end` on stdin; the answer on stdout is one JSON line with the time that the
optimiser step took, batch to batch, so everything that a user waits for is inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from workload import (
    LEARNING_RATES,
    SEED,
    VIRTUAL_TOKENS,
    Work,
    base_model,
    dataset,
    longest_batch,
    peak_memory_bytes,
    prompter,
    shape_of,
    training_batches,
)

if TYPE_CHECKING:
    import torch

    from tuneoff.models import BaseModel
    from tuneoff.prompts import Encoded

RANK, ALPHA = 16, 32
_NO_LABEL = -100  # what torch's cross entropy ignores


@dataclass(frozen=True)
class Job:
    """One contestant. `kind`: ours, coursework, trainer, sft. `weights`: dtype of the weights.

    `autocast`: bf16 products over those weights. `fp32_adapter`: PEFT keeps what it adds in fp32.
    """

    kind: str
    method: str
    work: Work = field(default_factory=Work)
    dropout: float = 0.0
    weights: str = "float32"
    autocast: bool = False
    fp32_adapter: bool = True

    @property
    def name(self) -> str:
        """Unique among the contestants of one contest."""
        arithmetic = {"float32": "fp32", "bfloat16": "bf16"}[self.weights]
        if self.autocast:
            arithmetic += "+autocast"
        elif self.weights == "bfloat16" and self.fp32_adapter and self.method != "full" and self.kind != "ours":
            arithmetic += "+fp32 adapter"
        dropout = f" dropout {self.dropout:g}" if self.dropout else ""
        return f"{self.kind} {self.method}{dropout} {arithmetic}"


# --- in the parent -------------------------------------------------------------------------------------------------


class Contestant:
    """A contestant's process, as the parent sees it. When it fails, `failure` says how and the rest is empty."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.seconds: list[float] = []  # of every step, the first ones included
        self.lengths: list[list[tuple[int, int]]] = []  # prompt and target tokens of each row of each step
        self.shape: dict[str, Any] = {}
        self.peak_bytes: int | None = None
        self.failure: str | None = None
        # As for the runs of a study: threads that wait asleep leave the cores to whose turn it is.
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", **os.environ},
        )

    def ready(self) -> None:
        """Wait until model and data are loaded."""
        self.shape = self._answer().get("shape", {})

    def step(self, what: str = "step") -> float | None:
        """One optimiser step on the next batch (`step`) or on the largest one (`longest`); its time in seconds."""
        if self.failure is not None:
            return None
        answer = self._ask(what)
        if "seconds" not in answer:
            return None
        self.peak_bytes = int(answer["peak_bytes"])
        if what == "step":
            self.seconds.append(answer["seconds"])
            self.lengths.append([(prompt, target) for prompt, target in answer["lengths"]])
        return float(answer["seconds"])

    def end(self) -> None:
        """Let the process go."""
        with contextlib.suppress(OSError):
            self._send("end")
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _send(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()

    def _ask(self, what: str) -> dict[str, Any]:
        try:
            self._send(what)
        except OSError:
            self.failure = self._exit()
            return {}
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._exit()}
        self.failure = answer.get("error", self.failure)
        return answer

    def _exit(self) -> str:
        return f"its process ended with code {self._process.wait()} (-9: memory ran out)"


# --- in the child --------------------------------------------------------------------------------------------------


class Turns:
    """The child's end: `wait` ends the step that runs, if one does, and returns what the parent wants next."""

    def __init__(self, batches: Sequence[list[Encoded]], commands: TextIO, answers: TextIO) -> None:
        self._batches = batches
        self._longest = longest_batch(batches)
        self._commands, self._answers = commands, answers
        self._next = 0
        self._rows: list[Encoded] | None = None
        self._start = 0.0

    def wait(self, loss: float | None = None) -> tuple[str, list[Encoded]]:
        """`step` or `longest` with its rows, or `end`."""
        if self._rows is not None:
            seconds = time.perf_counter() - self._start
            lengths = [(len(row.prompt), len(row.target)) for row in self._rows]
            self.say({"seconds": seconds, "loss": loss, "lengths": lengths, "peak_bytes": peak_memory_bytes()})
            self._rows = None
            _give_back_memory()
        what = self._commands.readline().strip() or "end"
        if what == "step":
            self._rows = self._batches[self._next % len(self._batches)]
            self._next += 1
        elif what == "longest":
            self._rows = self._longest
        self._start = time.perf_counter()
        return what, self._rows or []

    def say(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)


def _give_back_memory() -> None:
    """Several contestants share the machine: who waits must not sit on what it has freed."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


class _Enough(Exception):
    """The parent wants something else than the next step."""


def _ours(job: Job, base: BaseModel, turns: Turns, train: Sequence[Encoded], validation: Sequence[Encoded]) -> None:
    """The product's own loop, `engine.train.fit`, stopped between steps by its own events."""
    from tuneoff.engine.train import fit
    from tuneoff.events import Event, StepDone
    from tuneoff.methods import build
    from tuneoff.resources import Meter
    from tuneoff.spec import TrainSpec

    settings: dict[str, Any] = {"lora": {"lora_dropout": job.dropout, "r": RANK, "lora_alpha": ALPHA}}.get(
        job.method, {}
    )
    adapted = build(job.method, settings).adapt(base, (), SEED)
    wanted: tuple[str, list[Encoded]] = turns.wait()

    def between(event: Event) -> None:
        nonlocal wanted
        if isinstance(event, StepDone):
            wanted = turns.wait(event.loss)
            if wanted[0] != "step":
                raise _Enough

    def train_on(rows: Sequence[Encoded], steps: int) -> None:
        spec = TrainSpec(epochs=1, max_steps=steps, batch_size=job.work.batch_size)
        with Meter() as meter, tempfile.TemporaryDirectory() as scratch, contextlib.suppress(_Enough):
            fit(
                adapted,
                rows,
                validation,
                spec,
                learning_rate=LEARNING_RATES[job.method],
                weight_decay=0.0,
                seed=SEED,
                pad_id=base.pad_id,
                device=base.device,
                scratch=Path(scratch),
                meter=meter,
                emit=between,
            )

    while wanted[0] != "end":
        train_on(*((train, len(train)) if wanted[0] == "step" else (wanted[1], 1)))


def peft_model(job: Job, base: BaseModel) -> torch.nn.Module:
    """The base as PEFT's users adapt it; for `full` the base itself."""
    from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model

    from tuneoff.engine.seeding import seed_everything

    seed_everything(SEED)
    if job.method == "full":
        base.model.requires_grad_(True)
        return base.model
    kind = TaskType.CAUSAL_LM
    config: Any = PromptTuningConfig(task_type=kind, num_virtual_tokens=VIRTUAL_TOKENS)
    if job.method == "lora":
        config = LoraConfig(
            task_type=kind, r=RANK, lora_alpha=ALPHA, lora_dropout=job.dropout, target_modules="all-linear"
        )
    return get_peft_model(base.model, config, autocast_adapter_dtype=job.fp32_adapter)


def padded(rows: Sequence[Encoded], pad_id: int, width: int | None = None) -> dict[str, torch.Tensor]:
    """Ids, mask and labels padded on the right to `width` or the longest row, as a collator gives them."""
    import torch

    width = width or max(len(row.prompt) + len(row.target) for row in rows)
    ids, mask, labels = [], [], []
    for row in rows:
        room = width - len(row.prompt) - len(row.target)
        ids.append([*row.prompt, *row.target, *[pad_id] * room])
        mask.append([1] * (width - room) + [0] * room)
        labels.append([_NO_LABEL] * len(row.prompt) + [*row.target] + [_NO_LABEL] * room)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


def _coursework(job: Job, base: BaseModel, turns: Turns) -> None:
    """fp32, every row padded to `max_length`, logits at every position."""
    import torch

    model = peft_model(job, base)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATES[job.method])
    what, rows = turns.wait()
    while what != "end":
        batch = padded(rows, base.pad_id, job.work.max_length - (VIRTUAL_TOKENS if job.method == "soft_prompt" else 0))
        loss = model(**{name: tensor.to(base.device) for name, tensor in batch.items()}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        what, rows = turns.wait(float(loss.detach()))


class _Feed:
    """A loader for a trainer: the batch that the parent wants, padded to its longest row."""

    def __init__(self, turns: Turns, pad_id: int, device: torch.device) -> None:
        self._turns, self._pad_id, self._device = turns, pad_id, device

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            what, rows = self._turns.wait()
            if what == "end":
                return
            yield {name: tensor.to(self._device) for name, tensor in padded(rows, self._pad_id).items()}


def _arguments(job: Job, base: BaseModel, folder: str) -> dict[str, Any]:
    """A trainer at its fastest: fused AdamW, nothing saved, logged or drawn."""
    return {
        "output_dir": folder,
        "max_steps": 1_000_000,
        "per_device_train_batch_size": job.work.batch_size,
        "learning_rate": LEARNING_RATES[job.method],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "optim": "adamw_torch_fused",
        "bf16": job.autocast,
        "use_cpu": base.device.type == "cpu",
        "dataloader_pin_memory": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        # The parent's batches are grouped by length already, the same ones for every contestant.
        "train_sampling_strategy": "group_by_length",
    }


def _trainer(job: Job, base: BaseModel, turns: Turns) -> None:
    """transformers' Trainer with PEFT and dynamic padding."""
    from transformers import Trainer, TrainingArguments

    feed = _Feed(turns, base.pad_id, base.device)

    class Fed(Trainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            return feed

    with tempfile.TemporaryDirectory() as folder:
        Fed(model=peft_model(job, base), args=TrainingArguments(**_arguments(job, base, folder))).train()


def _sft(job: Job, base: BaseModel, turns: Turns) -> None:
    """TRL's SFTTrainer, loss on the completion only."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    feed = _Feed(turns, base.pad_id, base.device)

    class Fed(SFTTrainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            return feed

    # TRL wants a data set to look at; the batches come from the feed.
    look = Dataset.from_list([{"input_ids": [0, 0], "labels": [_NO_LABEL, 0]}])
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            **_arguments(job, base, folder),
            completion_only_loss=True,
            packing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        Fed(model=peft_model(job, base), args=arguments, train_dataset=look, processing_class=base.tokenizer).train()


def _child(job: Job, commands: TextIO, answers: TextIO) -> None:
    import torch

    from tuneoff.engine.precision import pick_device

    base = base_model(job.work, pick_device(), getattr(torch, job.weights))
    splits = dataset(job.work)
    encoder = prompter(job.work, base)
    train, _ = encoder.encode(splits.train, with_target=True)
    validation, _ = encoder.encode(splits.validation[:1], with_target=True)
    turns = Turns(training_batches(job.work, train), commands, answers)
    turns.say({"shape": asdict(shape_of(base.model))})
    if job.kind == "ours":
        _ours(job, base, turns, train, validation)
        return
    ways: dict[str, Callable[[Job, BaseModel, Turns], None]] = {
        "coursework": _coursework,
        "trainer": _trainer,
        "sft": _sft,
    }
    ways[job.kind](job, base, turns)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        _child(Job(**{**given, "work": Work(**given["work"])}), sys.stdin, answers)
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}), file=answers, flush=True)
