"""Colours of the report."""

from tuneoff.report.theme import DARK, HUES, INK, MUTED, NEUTRAL, PAPER


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_every_hue_stands_out_on_its_paper() -> None:
    for scheme in (0, 1):
        for hue in (NEUTRAL, *HUES):
            assert contrast(hue[scheme], PAPER[scheme]) >= 3.0, (hue, scheme)


def test_text_in_charts_meets_aa() -> None:
    for scheme in (0, 1):
        for ink in (INK, MUTED):
            assert contrast(ink[scheme], PAPER[scheme]) >= 4.5, (ink, scheme)


def test_no_two_roles_share_a_colour_that_the_dark_scheme_would_confuse() -> None:
    assert len(DARK) == len({NEUTRAL, *HUES}) + 5
