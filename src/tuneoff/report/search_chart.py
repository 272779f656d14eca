"""The chart of the search: validation loss over the learning rates that each method tried."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from tuneoff.report.chart_data import loss_of_trial, swept_cells
from tuneoff.report.chart_style import colour, inline_data, styled
from tuneoff.report.theme import MethodStyles
from tuneoff.results.study_state import SearchCell


def learning_rate_sweeps(cells: Sequence[SearchCell], styles: MethodStyles) -> Any | None:
    """Validation loss (nats per target token) over the learning rate; a panel for each base model.

    A ring marks the rate that was chosen. A pruned trial is a cross, with its loss at the step of pruning.
    """
    panels = []
    for model in styles.models:
        labels = {style.method: style.label for style in styles if style.model == model}
        rows = [
            {
                "method": labels[cell.method],
                "rate": trial.value,
                "loss": round(loss, 5),
                "chosen": trial.value == cell.chosen,
                "pruned": trial.cut_at is not None,
                "outcome": f"pruned at step {trial.cut_at}" if trial.cut_at is not None else trial.status,
            }
            for cell in swept_cells(cells)
            if cell.model == model and cell.method in labels
            for trial in cell.trials
            if isinstance(trial.value, int | float) and trial.value > 0 and (loss := loss_of_trial(trial)) is not None
        ]
        if not rows:
            continue
        base = alt.Chart(inline_data(rows)).encode(
            x=alt.X(
                "rate:Q", title="learning rate", scale=alt.Scale(type="log", padding=14), axis=alt.Axis(format="~e")
            ),
            y=alt.Y("loss:Q", title="validation loss, nats per target token", scale=alt.Scale(zero=False, padding=14)),
            color=colour(styles),
            tooltip=[
                alt.Tooltip("method:N", title="method"),
                alt.Tooltip("rate:Q", title="learning rate", format=".3~g"),
                alt.Tooltip("loss:Q", title="validation loss", format=".4f"),
                alt.Tooltip("outcome:N", title="trial"),
            ],
        )
        whole = base.transform_filter("!datum.pruned")
        # A layer without rows would have no scale.
        marks = {
            "pruned": base.transform_filter("datum.pruned").mark_point(shape="cross", size=60, opacity=1),
            "chosen": base.transform_filter("datum.chosen").mark_point(
                size=190, strokeWidth=1.8, filled=False, opacity=1
            ),
        }
        layers = [
            whole.mark_line(strokeWidth=2),
            whole.mark_point(filled=True, size=50, opacity=1),
            *(layer for name, layer in marks.items() if any(row[name] for row in rows)),
        ]
        title = {"title": styles.short_names[model]} if len(styles.models) > 1 else {}
        panels.append(alt.layer(*layers, **title).properties(width=620, height=280))
    return styled(panels, columns=2, title="Learning rates tried", subtitle=_KEY) if panels else None


_KEY = "ring: chosen, cross: pruned"
