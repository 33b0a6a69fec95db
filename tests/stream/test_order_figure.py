"""The figure of docs/stream.md is drawn from the library's own order, and is current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_figure_is_current(tmp_path: Path) -> None:
    drawn = tmp_path / "order.svg"
    script = str(ROOT / "scripts" / "order_figure.py")
    subprocess.run([sys.executable, script, str(drawn)], check=True)
    assert drawn.read_bytes() == (ROOT / "docs" / "images" / "order.svg").read_bytes()
