"""The colours of a report, in a light and a dark theme.

Series follow Okabe and Ito's palette, which people with colour-blindness can tell apart, darkened
or lightened until each has a contrast of at least 3:1 with its background (WCAG 2.1, 1.4.11).
The lightness of the heat map's scale changes in one direction only, so that it reads the same
without colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SCALE_STEPS = 21
"""Colours of the heat map."""


@dataclass(frozen=True)
class Theme:
    """The colours of one theme as ``#rrggbb``."""

    paper: str
    card: str
    ink: str
    muted: str
    line: str
    accent: str
    good: str
    warning: str
    series: tuple[str, ...]
    scale: tuple[str, ...]
    """Anchors of the heat map's scale from its low end to its high end."""


LIGHT = Theme(
    paper="#f6f7f5",
    card="#ffffff",
    ink="#15232b",
    muted="#566670",
    line="#dde3e4",
    accent="#0b5c74",
    good="#0a6b52",
    warning="#8a4b00",
    series=("#0a6aa6", "#c2570c", "#0a7f62", "#a3477f", "#8a6d00", "#5b5bb0"),
    scale=("#f4f7f1", "#cfe6dd", "#8cc6cf", "#3d8fb0", "#134a78"),
)
DARK = Theme(
    paper="#0e1518",
    card="#162024",
    ink="#e6edee",
    muted="#9aabb2",
    line="#2a383e",
    accent="#6cc3dc",
    good="#5fd0ab",
    warning="#f0b562",
    series=("#5cb4ee", "#f0913d", "#38c79d", "#e08fc0", "#d9bf4b", "#a3a3f5"),
    scale=("#1a2529", "#1e4557", "#25748f", "#5fb6c4", "#d3f2dd"),
)

Rgb = tuple[float, float, float]


def _linear(colour: str) -> Rgb:
    """Linear-light sRGB, each channel from 0 to 1 (IEC 61966-2-1)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in channels
    )
    return red, green, blue


def contrast(first: str, second: str) -> float:
    """WCAG 2.1 contrast ratio of two colours, from 1 to 21."""
    lights = []
    for colour in (first, second):
        red, green, blue = _linear(colour)
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def _oklab(colour: str) -> Rgb:
    """Oklab coordinates (Ottosson, 2020)."""
    red, green, blue = _linear(colour)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _hexadecimal(lab: Rgb) -> str:
    lightness, a, b = lab
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    channels = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    digits = ""
    for value in channels:
        value = min(max(value, 0.0), 1.0)
        value = 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
        digits += f"{round(255 * value):02x}"
    return f"#{digits}"


def scale_colours(theme: Theme) -> list[tuple[str, str]]:
    """(background, text) of the heat map's ``SCALE_STEPS`` steps, low to high.

    The text is black or white, whichever has the better contrast.
    """
    steps = []
    for number in range(SCALE_STEPS):
        background = _between(theme.scale, number / (SCALE_STEPS - 1))
        text = max("#000000", "#ffffff", key=lambda ink: contrast(ink, background))
        steps.append((background, text))
    return steps


def _between(anchors: Sequence[str], position: float) -> str:
    place = position * (len(anchors) - 1)
    left = min(int(place), len(anchors) - 2)
    part = place - left
    first, second = _oklab(anchors[left]), _oklab(anchors[left + 1])
    lightness, a, b = (x + part * (y - x) for x, y in zip(first, second, strict=True))
    return _hexadecimal((lightness, a, b))


def scale_step(value: float, low: float, high: float) -> int:
    """The step of the heat map's scale for ``value``; the scale goes from ``low`` to ``high``."""
    position = (value - low) / (high - low)
    return round(min(max(position, 0.0), 1.0) * (SCALE_STEPS - 1))


def css_variables(theme: Theme) -> str:
    """The theme as CSS custom properties, without the braces."""
    values = {
        name: getattr(theme, name)
        for name in ("paper", "card", "ink", "muted", "line", "accent", "good", "warning")
    }
    values |= {f"series-{number}": colour for number, colour in enumerate(theme.series)}
    for number, (background, text) in enumerate(scale_colours(theme)):
        values |= {f"scale-{number}": background, f"on-scale-{number}": text}
    return " ".join(f"--{name}: {value};" for name, value in values.items())


def css() -> str:
    """Both themes and the classes of the heat map's steps."""
    light, dark = css_variables(LIGHT), css_variables(DARK)
    steps = "\n".join(
        f".step-{number} {{ background: var(--scale-{number}); color: var(--on-scale-{number}); }}"
        for number in range(SCALE_STEPS)
    )
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{steps}\n"
    )
