from __future__ import annotations

import pytest

from headrace.report import palette
from headrace.report.palette import DARK, LIGHT, Theme, contrast, scale_colours, scale_step

THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


def test_contrast_of_known_pairs() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@THEMES
def test_text_can_be_read(theme: Theme) -> None:
    for ink in (theme.ink, theme.muted, theme.accent, theme.good, theme.warning):
        assert min(contrast(ink, theme.paper), contrast(ink, theme.card)) >= 4.5


@THEMES
def test_series_stand_out(theme: Theme) -> None:
    assert all(contrast(colour, theme.card) >= 3 for colour in theme.series)


@THEMES
def test_the_scale_is_readable_and_runs_one_way(theme: Theme) -> None:
    steps = scale_colours(theme)
    assert all(contrast(background, ink) >= 4.5 for background, ink in steps)
    light = [contrast(background, "#000000") for background, _ in steps]
    assert light == sorted(light, reverse=theme is LIGHT)


def test_steps_are_clamped() -> None:
    assert scale_step(-1, 0.2, 1) == 0
    assert scale_step(2, 0.2, 1) == palette.SCALE_STEPS - 1
    assert scale_step(0.6, 0.2, 1) == (palette.SCALE_STEPS - 1) // 2
