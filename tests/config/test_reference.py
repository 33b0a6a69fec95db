"""The generated config reference."""

from pathlib import Path

from headrace.config.reference import reference
from headrace.config.schema import HeadraceConfig

ROOT = Path(__file__).parents[2]


def test_the_reference_in_docs_is_current():
    written = (ROOT / "docs" / "config_reference.md").read_text(encoding="utf-8")
    assert written == reference(), "run `make docs`"


def test_every_key_is_documented():
    for name, field in HeadraceConfig.model_fields.items():
        assert field.description, name
        assert f"`{name}`" in reference()
