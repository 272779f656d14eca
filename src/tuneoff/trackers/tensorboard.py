"""TensorBoard: each run is a folder with one file of events. It needs no account, server or network."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuneoff.errors import UserError
from tuneoff.results.events import Event
from tuneoff.results.run_record import Record
from tuneoff.spec import RunSpec
from tuneoff.trackers.base import Figures, Predictions
from tuneoff.trackers.logged import point_of, summary_of, table_of

_MARKUP = re.compile(r"[\\`*_{}\[\]<>|#~&!]")


class TensorboardTracker:
    """Writes into `tensorboard/` of the study's folder. The constructor raises `UserError` without the package."""

    def __init__(self, folder: Path) -> None:
        try:
            self._summaries: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
            self._writer_type: Any = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        except ImportError as error:
            raise UserError("--report-to tensorboard: not installed; run: pip install tensorboard") from error
        self._folder = folder / "tensorboard"
        self._writer: Any = None

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        """Start a run in a folder of its own; one that is tried again adds to its folder."""
        if self._writer is not None:
            self._writer.close()
        self._writer = self._writer_type(str(self._folder / name))
        self._writer.add_text("study", group)
        settings = json.dumps(spec.without_paths().model_dump(mode="json"), indent=2)
        self._writer.add_text("settings", "".join(f"    {line}\n" for line in settings.splitlines()))  # code

    def event(self, event: Event) -> None:
        """Write a step, a validation or a resource sample. The axis of resources counts seconds."""
        point = point_of(event)
        if point is not None:
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, round(point.at))

    def finish(self, record: Record, figures: Figures = tuple, predictions: Predictions = tuple) -> None:
        """Write scores, costs, figures and texts, then close the file."""
        for name, value in summary_of(record).items():
            if isinstance(value, str):
                self._writer.add_text(name, value)
            else:
                self._writer.add_scalar(name, value)
        for path in figures():
            # `add_image` would need Pillow, and decode what is encoded already.
            image = self._summaries.Summary.Image(encoded_image_string=path.read_bytes())
            value = self._summaries.Summary.Value(tag=f"figures/{path.stem}", image=image)
            self._writer.file_writer.add_summary(self._summaries.Summary(value=[value]))
        if rows := predictions():
            columns, data = table_of(rows)
            lines: list[Sequence[object]] = [columns, ["---"] * len(columns), *data]
            self._writer.add_text("predictions", "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in lines))
        self._writer.close()
        self._writer = None

    def closing_words(self) -> str | None:
        """How to look at the curves."""
        return f"to see the curves: tensorboard --logdir {shlex.quote(str(self._folder))}"


def _cell(value: object) -> str:
    """A cell of a table in TensorBoard's Markdown, on one line; it shows a generated text as it is.

    Its signs of Markdown are references: TensorBoard 2.21 ends a cell at `\\|`, and loads images that a text names.
    """
    return _MARKUP.sub(lambda sign: f"&#{ord(sign[0])};", " ".join(str(value).split()))
