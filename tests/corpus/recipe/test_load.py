from pathlib import Path

import fsspec
import pytest
import yaml

from headrace.corpus.privacy import make_key
from headrace.corpus.recipe import load_recipe
from headrace.errors import ConfigError

SOURCE = {
    "id": "a",
    "title": "Test",
    "custodian": "The library",
    "licence": "CC0-1.0",
    "consent_basis": "open licence",
    "jurisdiction": "EU",
    "region": "Europe",
}


@pytest.fixture
def load(tmp_path):
    """Loads a recipe with these sources; the output is the folder ``out``."""
    (tmp_path / "in").mkdir()
    for name in ("de.txt", "en.txt", "notes.md"):
        (tmp_path / "in" / name).write_text("text\n")

    def loaded(*sources: dict, **sections):
        path = tmp_path / "recipe.yaml"
        content = {"name": "test", "version": "1", "sources": list(sources), **sections}
        path.write_text(yaml.safe_dump(content))
        return load_recipe(path, tmp_path / "out")

    return loaded


def problems(load, *sources, **sections) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(*sources, **sections)
    return {problem.where: problem.what for problem in caught.value.problems}


def test_everything_that_is_wrong_is_said_at_once(load, tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH", raising=False)
    (tmp_path / "out").mkdir()
    key = tmp_path / "out" / "key"
    make_key(key)
    without = {name: value for name, value in SOURCE.items() if name != "licence"}
    found = problems(
        load,
        {**without, "files": ["${NO_SUCH}/x"]},
        {**SOURCE, "files": [f"{tmp_path}/in/*.csv"], "format": "wrod", "language": "english!"},
        {**SOURCE, "id": "b", "files": [f"{tmp_path}/in/*"], "licence": "my own words"},
        privacy={"mode": "hash", "key": str(key)},
        limits={"memory": "lots"},
        colour="red",
    )
    assert found == {
        "sources.0.licence": "a required key is missing",
        "sources.0.files.0": "the environment variable is not set",
        "sources.1.files.0": "no file is there",
        "sources.1.format": "no reader of this format",
        "sources.1.language": "not a language tag",
        "sources.2.licence": "no licence that is known",
        "sources": "two sources have the same id",
        "limits.memory": "Value error, not a size: write it as 50 GB, 1.5 TiB or a number of bytes",
        "colour": "unknown key",
    }
    found = problems(
        load, {**SOURCE, "files": [f"{tmp_path}/in/*"]}, privacy={"mode": "hash", "key": str(key)}
    )
    assert found == {"privacy.key": "the key lies inside the data set"}


def test_terms_that_forbid_what_the_corpus_is_for(load, tmp_path):
    source = {**SOURCE, "files": [f"{tmp_path}/in/de.txt"]}
    other = {**source, "id": "b", "forbids": ["commercial", "redistribution", "training"]}
    with pytest.raises(ConfigError) as caught:
        load(source, other, licences={"uses": ["training", "redistribution"]})
    found = [(problem.where, problem.value) for problem in caught.value.problems]
    assert found == [("sources.1.forbids", "training"), ("sources.1.forbids", "redistribution")]
    assert load(source, other, licences={"uses": ["derivatives"]}).recipe.sources[1].forbids


def test_modes_that_need_a_key_need_one(load, tmp_path):
    source = {**SOURCE, "files": [f"{tmp_path}/in/de.txt"]}
    assert problems(load, source, privacy={"modes": {"EMAIL": "pseudonym"}}) == {
        "privacy.key": "the mode needs a key"
    }
    assert load(source, privacy={"mode": "mask"}).key_fingerprint is None


def test_inputs_must_not_lie_in_the_output(load, tmp_path):
    (tmp_path / "out" / "sub").mkdir(parents=True)
    (tmp_path / "out" / "sub" / "a.txt").write_text("x")
    found = problems(load, {**SOURCE, "files": [f"{tmp_path}/**/*.txt"]})
    assert list(found) == ["sources.0.files"]


def test_files_are_listed_once_in_order_with_keys_below_their_common_folder(load, tmp_path):
    (tmp_path / "in" / "more").mkdir()
    (tmp_path / "in" / "more" / "fr.txt").write_text("texte")
    loaded = load(
        {
            **SOURCE,
            "files": [f"{tmp_path}/in/**/*.txt", f"{tmp_path}/in/de.txt", f"{tmp_path}/in/no*"],
            "except_files": [f"{tmp_path}/in/en.*"],
        },
        {**SOURCE, "id": "b", "files": [f"{tmp_path}/in/more/fr.txt"]},
    )
    assert [(file.source, file.key, file.stamp.size) for file in loaded.files] == [
        (0, "de.txt", 5),
        (0, "more/fr.txt", 5),
        (0, "notes.md", 5),
        (1, "fr.txt", 5),
    ]


def test_files_that_are_not_named_after_a_language_are_told(load, tmp_path):
    (tmp_path / "in" / "README.txt").write_text("x")
    source = {**SOURCE, "files": [f"{tmp_path}/in/*.txt"], "language": "from_file_name"}
    assert list(problems(load, source)) == [f"sources.0: {tmp_path}/in/README.txt"]


def test_remote_files_have_urls(load):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/raw/a/de.txt", b"12345")
    memory.pipe_file("/raw/b/en.txt", b"123")
    loaded = load({**SOURCE, "files": ["memory://raw/*/*.txt"]})
    assert [(file.url, file.key, file.stamp.size) for file in loaded.files] == [
        ("memory:///raw/a/de.txt", "a/de.txt", 5),
        ("memory:///raw/b/en.txt", "b/en.txt", 3),
    ]
    assert all(file.stamp.version for file in loaded.files)


def test_the_shipped_recipe_is_well_formed(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HEADRACE_KEY", str(tmp_path / "key"))
    make_key(tmp_path / "key")
    root = Path(__file__).parents[3]
    for path in sorted((root / "recipes").glob("*.yaml")):
        with pytest.raises(ConfigError) as caught:
            load_recipe(path, tmp_path / "out")
        assert {problem.what for problem in caught.value.problems} == {"no file is there"}
