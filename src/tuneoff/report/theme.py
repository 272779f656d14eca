"""Colours and shapes: the same for a method in table, charts and reader.

The hues are those of Okabe and Ito (Color Universal Design, 2008), which people with any common colour blindness can
distinguish. They are darkened for white paper and lightened for a dark page, so that each has a contrast of at least
3 : 1. Shapes repeat the distinction, so that no chart depends on colour alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from tuneoff.methods.rows import row_title
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

# Colour on a light page -> colour on a dark page. The page replaces them inside charts.
DARK: dict[str, str] = dict((NEUTRAL, *HUES, INK, MUTED, GRID, PAPER, BAND))


@dataclass(frozen=True)
class MethodStyle:
    """How one method on one base model is drawn."""

    model: str
    method: str
    label: str
    hue: int
    """1 .. `len(HUES)`; 0 for the neutral grey."""
    shape: str
    dash: tuple[int, ...]

    @property
    def colour(self) -> str:
        """The colour on light paper; `DARK` maps it to the one on a dark page."""
        return (NEUTRAL, *HUES)[self.hue][0]

    @property
    def glyph(self) -> str:
        """The shape as a character."""
        return GLYPHS[self.shape]


def _last_part(name: str) -> str:
    """The last part of a folder or hub id."""
    return PurePath(name.replace("\\", "/")).name or name


class MethodStyles:
    """Styles of all methods of a study, in the order of their first run.

    Zero-shot, the anchor of every gain, is grey. The hue depends on the method, the dash of a line on the base model.
    """

    def __init__(self, records: Iterable[Record], titles: Mapping[str, str] | None = None) -> None:
        keys = list(dict.fromkeys((record.spec.model.name, record.spec.method.name) for record in records))
        models = list(dict.fromkeys(model for model, _ in keys))
        methods = list(dict.fromkeys(method for _, method in keys))
        coloured = [method for method in methods if method != "zero_shot"]
        hues = {method: 1 + index % len(HUES) for index, method in enumerate(coloured)}
        short = [_last_part(model) for model in models]
        self.models = models
        self.short_names = dict(zip(models, short if len(set(short)) == len(short) else models, strict=True))
        self._styles: dict[tuple[str, str], MethodStyle] = {}
        for model, method in keys:
            self._styles[model, method] = MethodStyle(
                model=model,
                method=method,
                label=self.label((titles or {}).get(method) or row_title(method), model),
                hue=hues.get(method, 0),
                shape=SHAPES[(models.index(model) if len(models) > 1 else methods.index(method)) % len(SHAPES)],
                dash=((1, 0), (6, 3), (2, 2), (8, 2, 2, 2))[models.index(model) % 4],
            )

    def model_name(self, model: str | None) -> str | None:
        """The shortest name that distinguishes a base model from the others; None if there are no others."""
        return self.short_names.get(model, model) if model and len(self.models) > 1 else None

    def label(self, title: str, model: str | None) -> str:
        """A method's title, with its base model if the study has several."""
        name = self.model_name(model)
        return f"{title} · {name}" if name else title

    def __iter__(self) -> Iterator[MethodStyle]:
        return iter(self._styles.values())

    def __len__(self) -> int:
        return len(self._styles)

    def of(self, record: Record) -> MethodStyle:
        """The style of a run."""
        return self._styles[record.spec.model.name, record.spec.method.name]
