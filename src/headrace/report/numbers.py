"""How a report writes numbers.  A missing value is an en dash, never an empty cell."""

from __future__ import annotations

from datetime import datetime

from headrace.report.summary import Spread

MISSING = "–"
MINUS = "−"  # U+2212, as wide as a digit


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in percent without the sign: 0.7421 -> ``74.21``."""
    return MISSING if value is None else f"{100 * value:.{digits}f}"


def points(value: float | None) -> str:
    """A difference of two fractions in percentage points, always signed."""
    if value is None:
        return MISSING
    text = f"{100 * value:+.2f}"
    return text.replace("-", MINUS) if float(text) else "0.00"


def plus_minus(value: Spread | None) -> str:
    """``74.21 ± 0.35``; without a deviation for a single run."""
    if value is None:
        return MISSING
    if value.deviation is None:
        return percent(value.mean)
    return f"{percent(value.mean)} ± {percent(value.deviation)}"


def loss(value: float | None) -> str:
    """A loss with four decimals."""
    return MISSING if value is None else f"{value:.4f}"


def count(value: float | None) -> str:
    """A whole number with thousands separators."""
    return MISSING if value is None else f"{round(value):,}"


def amount(value: float | None) -> str:
    """A number of three significant digits, large ones whole: 0.0123, 4.57, 12,346."""
    if value is None:
        return MISSING
    return f"{round(value):,}" if abs(value) >= 100 else f"{value:.3g}"


def share(value: float | None) -> str:
    """A fraction in percent with the sign and one decimal: 0.313 -> ``31.3 %``."""
    return MISSING if value is None else f"{100 * value:.1f} %"


def duration(seconds: float | None) -> str:
    """Seconds as ``2 h 05 min``, ``5 min 12 s`` or ``12 s``."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours:,} h {minutes:02d} min"
    if minutes:
        return f"{minutes} min {whole % 60:02d} s"
    return f"{whole} s"


def moment(iso: str) -> str:
    """An ISO 8601 time to the minute: ``2026-02-11 09:14 UTC``; other text stays as it is."""
    try:
        time = datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return iso
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".rstrip()
