"""The look that all charts share."""

from pathlib import Path

import altair as alt

from support.report_study import load, read_summary
from tuneoff.report.chart_style import colour, fill, inline_data, styled
from tuneoff.report.study_charts import method_styles


def test_panels_share_a_title_and_the_colours_of_methods(rich_study: Path) -> None:
    styles = method_styles(read_summary(rich_study), load(rich_study))
    panel = alt.Chart(inline_data([{"method": "LoRA", "x": 1}])).mark_bar().encode(x="x:Q", color=colour(styles))
    drawn = styled(
        [panel, panel.encode(fill=fill(styles))], columns=2, title="A title", subtitle="word " * 40
    ).to_dict()
    assert drawn["title"]["text"] == "A title"
    assert len(drawn["title"]["subtitle"]) == 3
    scales = [drawn["concat"][index]["encoding"]["color"]["scale"] for index in (0, 1)]
    assert scales[0] == scales[1]
    assert dict(zip(scales[0]["domain"], scales[0]["range"], strict=True)) == {one.label: one.colour for one in styles}
    assert drawn["concat"][1]["encoding"]["fill"]["legend"] is None
