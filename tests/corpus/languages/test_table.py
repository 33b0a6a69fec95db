"""The tables of docs/languages.md come from their result file and from nowhere else."""

import json

from tests.script_files import script


def test_the_page_shows_the_tables_of_the_result():
    module = script("language_table")
    result = json.loads(module.RESULT.read_text(encoding="utf-8"))
    page = module.PAGE.read_text(encoding="utf-8")
    assert page == module.put_into(page, result)
    assert set(result["sets"]) == set(module.SETS)
