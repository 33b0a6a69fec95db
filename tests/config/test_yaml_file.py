import pytest

from headrace.config.yaml_file import read_yaml
from headrace.errors import ConfigError


def read(tmp_path, text: str):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return read_yaml(path, "recipe", "Write one")


def test_only_json_has_types(tmp_path):
    text = "a: no\nb: 2024-05-01\nc: true\nd: 1.5\ne: 1e3\nf: ~\ng: [12, 0x10, '7', -.5]\nh: on\n"
    assert read(tmp_path, text) == {
        "a": "no",
        "b": "2024-05-01",
        "c": True,
        "d": 1.5,
        "e": 1000.0,
        "f": None,
        "g": [12, 16, "7", -0.5],
        "h": "on",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", "a key stands twice"),
        ("a: {b: 1, b: 2}\n", "a key stands twice"),
        ("1: x\n", "a key is not text"),
        ("a: [1\n", "not valid YAML"),
        ("- a\n", "a recipe is an object with keys"),
        ("", "a recipe is an object with keys"),
        ("a: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("a: \x01\n", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_what_is_wrong_is_an_error_with_a_place(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "none.yaml", "recipe", "Write one")
