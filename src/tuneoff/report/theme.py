"""Who stands in the report and how each is drawn: the same colour and shape in table, charts and reader.

The hues are those of Okabe and Ito (Color Universal Design, 2008), which people with any common colour blindness can
tell apart, darkened for white paper and lightened for a dark page until each has at least 3 : 1 contrast there.
Shapes repeat the distinction, so that no reading depends on colour alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from tuneoff.results.run_record import Record

# (on light, on dark)
NEUTRAL = ("#66707a", "#a7b2bd")
HUES = (
    ("#0072b2", "#58b4ec"),  # blue
    ("#d05a00", "#ff944d"),  # vermilion
    ("#00805d", "#3ccaa0"),  # bluish green
    ("#b0508a", "#ea9fcd"),  # reddish purple
    ("#8f6b00", "#e2bb45"),  # ochre
    ("#5653c9", "#a9a8ff"),  # indigo
    ("#a33a3a", "#ff8f8f"),  # brick
)
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
GLYPHS = dict(zip(SHAPES, "●■▲◆✚▼▶◀", strict=True))

INK = ("#1f2328", "#eceae4")
MUTED = ("#5c636b", "#a9a79f")
GRID = ("#e4e1d9", "#34373c")
PAPER = ("#ffffff", "#1b1d20")
BAND = ("#f1eee6", "#26292e")

# What the page swaps inside a chart when the reader's screen is dark.
DARK: dict[str, str] = dict((NEUTRAL, *HUES, INK, MUTED, GRID, PAPER, BAND))


@dataclass(frozen=True)
class Member:
    """One method on one model. `slot` is the index of its hue, 0 for the neutral one."""

    model: str
    method: str
    label: str
    slot: int
    shape: str
    dash: tuple[int, ...]

    @property
    def colour(self) -> str:
        """Its colour on light paper; `DARK` maps it to the one on a dark page."""
        return (NEUTRAL, *HUES)[self.slot][0]

    @property
    def glyph(self) -> str:
        """Its shape as a character."""
        return GLYPHS[self.shape]


def model_label(name: str) -> str:
    """A model for people: the last part of a folder or hub id."""
    return PurePath(name.replace("\\", "/")).name or name


def method_label(name: str) -> str:
    """A method for people when nobody gave it a title."""
    return name.replace("_", " ").capitalize()


class Cast:
    """All members of a study in the order of their first run. Zero-shot, the anchor of every gain, is neutral grey;
    the hue follows the method, the dash of a line follows the model."""

    def __init__(self, records: Iterable[Record], titles: Mapping[str, str] | None = None) -> None:
        keys = list(dict.fromkeys((record.spec.model.name, record.spec.method.name) for record in records))
        models = list(dict.fromkeys(model for model, _ in keys))
        methods = list(dict.fromkeys(method for _, method in keys))
        coloured = [method for method in methods if method != "zero_shot"]
        slots = {method: 1 + index % len(HUES) for index, method in enumerate(coloured)}
        names = titles or {}
        short = [model_label(model) for model in models]
        self.shown = dict(zip(models, short if len(set(short)) == len(short) else models, strict=True))
        self.models = models
        self.members: dict[tuple[str, str], Member] = {}
        for model, method in keys:
            title = names.get(method) or method_label(method)
            self.members[model, method] = Member(
                model=model,
                method=method,
                label=self.label(title, model),
                slot=slots.get(method, 0),
                shape=SHAPES[(models.index(model) if len(models) > 1 else methods.index(method)) % len(SHAPES)],
                dash=((1, 0), (6, 3), (2, 2), (8, 2, 2, 2))[models.index(model) % 4],
            )

    def apart(self, model: str | None) -> str | None:
        """A model for people, no longer than tells it from the others; None where there are no others."""
        return self.shown.get(model, model) if model and len(self.models) > 1 else None

    def label(self, title: str, model: str | None) -> str:
        """A method on a model for people."""
        shown = self.apart(model)
        return f"{title} · {shown}" if shown else title

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members.values())

    def of(self, record: Record) -> Member:
        """The member that a run belongs to."""
        return self.members[record.spec.model.name, record.spec.method.name]
