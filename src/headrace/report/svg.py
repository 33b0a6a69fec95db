"""matplotlib figures as inline SVG that takes its colours and its font from the page.

Figures are drawn in placeholder colours, which become CSS custom properties here: one drawing
serves the light theme, the dark theme and print.
"""

from __future__ import annotations

import io
import logging
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headrace.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, LINE, CARD = "#010101", "#010102", "#010103", "#010104"
SERIES = tuple(f"#0102{number:02x}" for number in range(6))
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", CARD: "card"} | {
    colour: f"series-{number}" for number, colour in enumerate(SERIES)
}
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a "$" in a name is a "$"
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same metrics on every machine
    "font.size": 11.5,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
}
_NAMESPACE = re.compile(r"\{[^}]*\}")


def require_matplotlib() -> None:
    """Raise ``MissingExtraError`` where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report", "an HTML report") from error


def style(name: str) -> Any:
    """A context manager with the settings under which the figure ``name`` is drawn and saved."""
    import matplotlib

    # The salt makes ids that are stable for a figure and differ between figures of one page.
    return matplotlib.rc_context({**_STYLE, "svg.hashsalt": name})


def printable(text: str) -> str:
    """``text`` without the characters that XML cannot hold."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(letter) in {"Cc", "Cs"} else letter
        for letter in text
    )


def to_svg(
    figure: Figure, *, name: str, title: str, description: str, hover: Mapping[str, str]
) -> str:
    """``figure`` as an ``<svg>`` element; call inside :func:`style` of the same ``name``.

    ``hover`` maps the ``gid`` of an artist to the text that a browser shows over it.
    """
    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        # Text stays text: the browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        logger = logging.getLogger("matplotlib.font_manager")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            figure.savefig(buffer, format="svg", metadata=nothing)
        finally:
            logger.setLevel(level)
    root = ElementTree.fromstring(buffer.getvalue())
    _clean(root, name, hover)
    heading = ElementTree.Element("title", {"id": f"{name}-title"})
    heading.text = printable(title)
    text = ElementTree.Element("desc", {"id": f"{name}-description"})
    text.text = printable(description)
    root[:0] = [heading, text]
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-description",
        "preserveAspectRatio": "xMidYMid meet",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _clean(root: ElementTree.Element, name: str, hover: Mapping[str, str]) -> None:
    """Drop namespaces, metadata and unused ids; put in colours, fonts and hover texts."""
    for parent in list(root.iter()):
        for child in list(parent):
            if _NAMESPACE.sub("", str(child.tag)) in {"metadata", "style"}:
                parent.remove(child)
    used = set(re.findall(r"#([\w-]+)", ElementTree.tostring(root, encoding="unicode")))
    for element in root.iter():
        element.tag = _NAMESPACE.sub("", element.tag)
        attributes = {_NAMESPACE.sub("", key): value for key, value in element.attrib.items()}
        identity = attributes.pop("id", None)
        if identity in used:
            attributes["id"] = f"{name}-{identity}"
        for key in ("href", "clip-path"):
            if key in attributes:
                attributes[key] = attributes[key].replace("#", f"#{name}-")
        if "style" in attributes:
            attributes["style"] = _themed(attributes["style"])
        element.attrib = attributes
        if identity is not None and identity in hover:
            text = ElementTree.Element("title")
            text.text = printable(hover[identity])
            element.insert(0, text)


def _themed(declarations: str) -> str:
    declarations = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", declarations)
    return re.sub(
        r"#[0-9a-f]{6}",
        lambda found: f"var(--{_VARIABLES[found[0]]})" if found[0] in _VARIABLES else found[0],
        declarations,
    )
