"""How a report writes numbers.  A missing value is an en dash, never an empty cell."""

from __future__ import annotations

import math
from datetime import datetime

from headrace.report.summary import Spread

MISSING = "–"
MINUS = "−"  # U+2212, as wide as a digit


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in percent without the sign: 0.7421 -> ``74.21``."""
    return MISSING if value is None else f"{100 * value:.{digits}f}"


def score(value: float | None, *, is_number: bool) -> str:
    """A score: a fraction in percent, or a number of four significant digits: 12.34."""
    if not is_number or value is None:
        return percent(value)
    return f"{round(value):,}" if math.isfinite(value) and abs(value) >= 10_000 else f"{value:.4g}"


def points(value: float | None) -> str:
    """A difference of two fractions in percentage points, always signed."""
    if value is None:
        return MISSING
    text = f"{100 * value:+.2f}"
    return text.replace("-", MINUS) if float(text) else "0.00"


def difference(value: float | None, *, is_number: bool) -> str:
    """A difference of two scores, always signed."""
    if not is_number or value is None:
        return points(value)
    sign = "" if value == 0 else ("+" if value > 0 else MINUS)
    return sign + score(abs(value), is_number=True)


def plus_minus(value: Spread | None, *, is_number: bool = False) -> str:
    """``74.21 ± 0.35``; without a deviation for a single run."""
    if value is None:
        return MISSING
    text = score(value.mean, is_number=is_number)
    if value.deviation is None:
        return text
    return f"{text} ± {score(value.deviation, is_number=is_number)}"


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
    """A fraction in percent with the sign and one decimal: 0.313 -> ``31.3 %``.

    What is not nothing is not written as if it were: ``< 0.1 %``.
    """
    if value is None:
        return MISSING
    return "< 0.1 %" if 0 < value < 0.0005 else f"{100 * value:.1f} %"


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds of three significant digits: 0.0517 -> ``51.7 ms``."""
    return MISSING if seconds is None else f"{amount(1000 * seconds)} ms"


def gigabytes(size: float | None) -> str:
    """Bytes in units of 10^9: ``12.3 GB``."""
    return MISSING if size is None else f"{size / 1e9:.1f} GB"


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
