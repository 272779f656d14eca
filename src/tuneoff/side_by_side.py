"""The texts of all methods of a study for one document, with the time that each took."""

from __future__ import annotations

import gc
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneoff.data import Example
from tuneoff.errors import UserError
from tuneoff.memory_limits import available_memory
from tuneoff.prompts import field_names
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.study_dir import StoredStudy
from tuneoff.verdict.selection import find_model_to_use

if TYPE_CHECKING:
    from tuneoff.run import Generator

# Loaded models may take this part of the memory that is free; beyond that, the one that was used longest ago goes.
_MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class WrittenText:
    """What one method wrote. `seconds` do not include loading."""

    text: str
    seconds: float
    note: str


class SideBySide:
    """The best run of each method, loaded when it is first used. One text is written at a time.

    `load` makes the generator of a run. Raises `UserError` for a study without a run that can be used.
    """

    def __init__(self, study: StoredStudy, load: Callable[[StoredRun], Generator]) -> None:
        methods = dict.fromkeys(
            run.record.spec.method.name
            for run in study.runs
            if run.record.spec.is_main and run.record.status == "finished"
        )
        self.runs: dict[str, StoredRun] = {}
        for method in methods:
            run = study.run(find_model_to_use(study, method, None).run)
            if run is not None:
                self.runs[method] = run
        if not self.runs:
            raise UserError(f"{study.path}: contains no finished run on all the data")
        self._load = load
        self._loaded: OrderedDict[str, Generator] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields in the instructions."""
        names = (name for run in self.runs.values() for name in field_names(run.record.spec.prompt.instruction))
        return tuple(dict.fromkeys(names))

    def write(self, method: str, document: str, fields: Mapping[str, str]) -> WrittenText:
        """The text of a method. Raises `UserError` for an unknown method, an empty document or one without room."""
        if method not in self.runs:
            raise UserError(f"{method}: the study has no finished run of it; there are {', '.join(self.runs)}")
        if not document.strip():
            raise UserError("there is no document; paste a text")
        with self._lock:
            generator = self._generator(method)
            started = time.monotonic()
            example = Example(id="document", document=document.strip(), references=(), group="", fields=fields)
            [new] = generator.write([example])
            seconds = time.monotonic() - started
        if new.text is None:
            raise UserError("the fields leave no room for the document in the prompt; shorten them")
        return WrittenText(new.text, seconds, new.cut_sentence if new.is_cut else "")

    def _generator(self, method: str) -> Generator:
        if method in self._loaded:
            self._loaded.move_to_end(method)
            return self._loaded[method]
        while self._loaded and not self._has_room():
            self._loaded.popitem(last=False)
            gc.collect()  # its layers refer to themselves
        self._loaded[method] = self._load(self.runs[method])
        return self._loaded[method]

    def _has_room(self) -> bool:
        model = next(reversed(self._loaded.values())).base.model
        own = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        return bool(own <= _MEMORY_SHARE * available_memory())
