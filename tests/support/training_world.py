"""A tiny model and rows to train it on, for tests of the training loop."""

import contextlib
from dataclasses import dataclass

from support.tiny_bases import CPU, load_tiny
from tiny import example_row
from tuneoff.data import Example
from tuneoff.engine.checkpoint import Checkpoints
from tuneoff.engine.process_group import ALONE
from tuneoff.engine.trainer import Trainer, validation_loss
from tuneoff.methods import build
from tuneoff.prompts import Prompter
from tuneoff.results.events import Event
from tuneoff.spec import PromptSpec, TrainSpec


@dataclass
class Counter:
    tokens: int = 0


class FakeMeter:
    def __init__(self):
        self.counters: dict[str, Counter] = {}

    @contextlib.contextmanager
    def phase(self, name):
        yield self.counters.setdefault(name, Counter())

    def elapsed(self):
        return 0.0

    def state(self):
        return {name: counter.tokens for name, counter in self.counters.items()}

    def resume(self, state):
        for name, tokens in state.items():
            self.counters.setdefault(name, Counter()).tokens += tokens


class World:
    """A tiny model and rows to train it on."""

    def __init__(self, folder, scratch):
        self.folder, self.scratch = folder, scratch
        self.base = self.load()
        rows = [example_row(index) for index in range(24)]
        examples = [Example(row["id"], row["document"], (row["summary"],), row["id"]) for row in rows]
        prompter = Prompter(self.base.tokenizer, PromptSpec(max_length=128), max_new_tokens=8, reserved_tokens=20)
        encoded, _ = prompter.encode(examples, with_target=True)
        self.train, self.validation = encoded[:20], encoded[20:]
        self.events: list[Event] = []
        self.notes: list[str] = []
        self.meter = FakeMeter()
        self.checkpoints = Checkpoints(scratch)

    def load(self):
        return load_tiny(self.folder)

    def fit(self, name="full", rate=1e-3, seed=0, hyperparameters=None, prune_above=(), **spec):
        adapted = build(name, hyperparameters or {}).adapt(self.load(), [], seed)
        curve = self.fit_adapted(adapted, rate, seed, prune_above, **spec)
        return adapted, curve

    def fit_adapted(self, adapted, rate, seed=0, prune_above=(), **spec):
        return self.trainer(adapted, rate, seed, prune_above, **spec).fit()

    def trainer(self, adapted, rate, seed=0, prune_above=(), group=ALONE, **spec):
        return Trainer(
            adapted,
            self.train,
            self.validation,
            TrainSpec(**{"batch_size": 4, **spec}),
            learning_rate=rate,
            weight_decay=0.0,
            seed=seed,
            pad_id=0,
            device=CPU,
            checkpoints=self.checkpoints,
            meter=self.meter,
            emit=self.emit,
            prune_above=prune_above,
            group=group,
        )

    def emit(self, event):
        self.events.append(event)

    def loss(self, adapted):
        return validation_loss(adapted, self.validation, pad_id=0, device=CPU, tokens=1024)
