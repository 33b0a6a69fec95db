"""The tables of docs/languages.md come from their result file and from nowhere else."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_page_shows_the_tables_of_the_result():
    path = ROOT / "scripts" / "language_table.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = json.loads(module.RESULT.read_text(encoding="utf-8"))
    page = module.PAGE.read_text(encoding="utf-8")
    assert page == module.put_into(page, result)
    assert set(result["sets"]) == set(module.SETS)
