"""What the pages of reports share: the template engine, the style sheet, key figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.errors import MissingExtraError
from headrace.report import palette, svg

STYLE_SHEET = "report.css"


@dataclass(frozen=True)
class Tile:
    """One key figure at the top of a page."""

    value: str
    label: str
    note: str = ""


def require_page_tools() -> None:
    """Raise ``MissingExtraError`` where jinja2 or matplotlib is not installed."""
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("jinja2", "report", "an HTML report") from error
    svg.require_matplotlib()


def render_page(template: str, **values: object) -> str:
    """A template of this package, filled in, as one page that needs nothing else.

    Text is escaped; what is markup has to be a ``markupsafe.Markup``.
    """
    import jinja2
    from markupsafe import Markup

    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style_sheet = (folder / STYLE_SHEET).read_text(encoding="utf-8")
    return environment.get_template(template).render(
        css=Markup(palette.css() + style_sheet), **values
    )
