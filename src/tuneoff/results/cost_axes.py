"""What a method costs: one list of axes with one wording, for the verdict, the report and the terminal."""

from typing import Literal

from tuneoff.spec.run import Frozen


class CostAxis(Frozen):
    """One kind of cost."""

    name: str
    title: str
    """As it appears inside a sentence."""
    unit: str
    better: Literal["less", "more", "neither"] = "less"
    recommended: bool = True
    """Whether the verdict names the cheapest method on this axis."""

    @property
    def heading(self) -> str:
        """The title as the heading of a column."""
        return self.title[:1].upper() + self.title[1:]


COST_AXES: tuple[CostAxis, ...] = (
    CostAxis(name="train_seconds", title="training time", unit="s"),
    CostAxis(name="peak_memory_bytes", title="peak memory", unit="bytes"),
    CostAxis(name="artefact_bytes", title="size on disk", unit="bytes"),
    CostAxis(name="generate_seconds", title="generation time", unit="s"),
    CostAxis(name="energy_joules", title="energy", unit="J"),
    CostAxis(name="labelled_examples", title="labelled examples", unit="examples"),
    CostAxis(name="trainable_parameters", title="trainable parameters", unit="", better="neither", recommended=False),
    CostAxis(name="tokens_per_second", title="training speed", unit="tokens/s", better="more", recommended=False),
)


class Cost(Frozen):
    """A cost in the unit of its axis, as the mean over seeds; without a number, the reason why there is none."""

    value: float | None
    reason: str | None = None
