"""The card of a corpus: what it says, and that it does not go stale unnoticed."""

import json
import logging

import pytest
import yaml

from headrace.cli import main
from headrace.corpus.card.licences import hub_licence, identifiers
from headrace.corpus.card.readme import size_category
from headrace.corpus.takedown.log import append_to_log
from headrace.shards.tombstones import Removed, add_tombstones


def readme(corpus):
    return (corpus.path / "README.md").read_text(encoding="utf-8")


def front_matter(corpus):
    return yaml.safe_load(readme(corpus).split("---\n")[1])


def test_the_card_has_the_words_of_people_and_the_numbers_of_the_index(carded):
    text = readme(carded)
    sw = carded.of("sw")
    characters = sum(len(document.text) for document in sw)
    size = sum(len(document.text.encode()) for document in sw)
    assert f"| sw | 60 | {characters:,} |" in text
    assert f"{size:,}" in text
    assert "It is made up: nobody has said any of it." in text
    assert "**TODO** (social_impact): Whom it may help and whom it may hurt" in text
    assert "**TODO** (limits)" not in text
    assert "- Anna Example (removal of documents): anna@example.org" in text
    assert "- No privacy pack for sw: only the universal one was used." in text
    assert "- The licence of 41 documents is not known." in text
    assert "| web | Pages of the web | Web archive \\| Ltd | unknown |" in text
    assert "Village &lt;news&gt; &amp; more" in text
    assert "| EMAIL | 14 | 14 |" in text
    assert "No document has been removed" in text
    statement = (carded.path / "data_statement.md").read_text(encoding="utf-8")
    assert f"| sw | 60 | {characters:,} |" in statement
    assert "**TODO** (speakers)" in statement


def test_the_block_at_the_top_is_what_the_hub_reads(carded):
    found = front_matter(carded)
    assert found["language"] == ["sw", "en", "zh"]
    assert found["license"] == ["cc-by-4.0"]
    assert found["size_categories"] == ["n<1K"]
    assert found["multilinguality"] == ["multilingual"]
    hub = pytest.importorskip("huggingface_hub")
    card = hub.DatasetCard.load(carded.path / "README.md")
    assert card.data.pretty_name == "Texts of the river"


def test_the_package_datasets_reads_each_language(carded, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    assert set(datasets.get_dataset_config_names(str(carded.path))) == {
        "all", "en", "sw", "zh", "und",
    }  # fmt: skip
    for name in ("all", "zh"):
        rows = list(datasets.load_dataset(str(carded.path), name, split="train", streaming=True))
        wanted = carded.documents if name == "all" else carded.of(name)
        assert {(row["__key__"], row["txt"]) for row in rows} == {(d.id, d.text) for d in wanted}


def test_croissant_is_valid_and_leads_to_the_rows(carded, caplog):
    mlcroissant = pytest.importorskip("mlcroissant")
    with caplog.at_level(logging.WARNING):
        dataset = mlcroissant.Dataset(str(carded.path / "croissant.json"))
    assert dataset.metadata.ctx.issues.errors == set()
    assert dataset.metadata.ctx.issues.warnings == set()
    assert [record for record in caplog.records if "croissant" in record.name] == []
    metadata = dataset.metadata
    assert metadata.name == "Texts of the river"
    assert metadata.in_language == ["sw", "en", "zh"]
    assert metadata.data_use_cases == ["Tests."]
    assert metadata.data_limitations == ["It is made up: nobody has said any of it."]
    assert "EMAIL: 14 replaced" in metadata.personal_sensitive_information
    rows = list(dataset.records("documents"))
    assert {row["documents/id"].decode() for row in rows} == {d.id for d in carded.documents}
    assert sum(row["documents/characters"] for row in rows) == sum(
        len(document.text) for document in carded.documents
    )


def test_a_card_without_a_description_is_all_to_be_done(own_corpus, capsys):
    mlcroissant = pytest.importorskip("mlcroissant")
    assert main(["card", str(own_corpus.path)]) == 0
    assert "TODO, to be said in card.yaml: title, summary, motivation" in capsys.readouterr().out
    assert front_matter(own_corpus)["license"] == ["cc-by-4.0", "unknown"]
    dataset = mlcroissant.Dataset(str(own_corpus.path / "croissant.json"))
    assert dataset.metadata.ctx.issues.errors == set()
    assert main(["card", str(own_corpus.path), "--check"]) == 0


@pytest.mark.parametrize(
    ("privacy", "says"),
    [
        (None, "was not looked for"),
        (
            {"mode": "pseudonym", "modes": {"PASSWORD": "mask"}, "names": False},
            "made-up values of its kind, the same for the same value; PASSWORD was replaced by the "
            "name of its type. Names of people stayed",
        ),
    ],
)
def test_it_says_what_was_done_about_private_information(own_corpus, privacy, says):
    path = own_corpus.path / "corpus.json"
    document = json.loads(path.read_text())
    document["recipe"]["privacy"] = privacy
    path.write_text(json.dumps(document))
    assert main(["card", str(own_corpus.path)]) == 0
    assert says in readme(own_corpus)


def test_croissant_names_the_steps_of_the_recipe_alone(own_corpus):
    path = own_corpus.path / "corpus.json"
    document = json.loads(path.read_text())
    privacy = {"mode": "mask", "modes": {}, "names": False}
    document["recipe"] = {"privacy": privacy, "quality": None, "duplicates": {"near": None}}
    path.write_text(json.dumps(document))
    assert main(["card", str(own_corpus.path)]) == 0
    found = json.loads((own_corpus.path / "croissant.json").read_text())
    assert found["rai:dataPreprocessingProtocol"][0] == (
        "Unicode NFC; language identification; licences; private information; duplicates"
    )


def test_the_same_corpus_gives_the_same_card(carded, capsys):
    names = ("README.md", "data_statement.md", "croissant.json", "card.yaml")
    before = [(carded.path / name).read_bytes() for name in names]
    assert main(["card", str(carded.path)]) == 0
    assert [(carded.path / name).read_bytes() for name in names] == before
    assert main(["card", str(carded.path), "--check"]) == 0
    assert capsys.readouterr().out.endswith("river: ok\n")


def test_a_removed_document_makes_the_card_stale(carded, capsys):
    gone = carded.of("zh")[2]
    add_tombstones(str(carded.path / "zh"), [Removed("zh-000000.tar", 2, gone.id)])
    assert main(["card", str(carded.path), "--check"]) == 2
    said = capsys.readouterr().out
    for part in ("README.md: sizes", "README.md: languages", "data_statement.md: languages"):
        assert f"{part}: it does not fit the corpus any more" in said
    assert "value: Version 1.0: 131 documents, " in said
    assert ", now Version 1.0: 130 documents, " in said
    assert "croissant.json: size" in said
    assert "README.md: governance" not in said
    assert "parts of the card stale" in said
    assert main(["card", str(carded.path)]) == 0
    assert main(["card", str(carded.path), "--check"]) == 0
    assert "1 removed later" in readme(carded)


CHANGES = [
    ("README.md", "| EMAIL | 14 | 14 |", "| EMAIL | 13 | 14 |", "README.md: private information"),
    ("README.md", '- "sw"\n', "", "README.md: metadata"),
    ("README.md", "<!-- counted: sizes -->", "", "README.md: sizes"),
    ("README.md", "To see how", "In order to see how", None),
    ("data_statement.md", "Kenya", "Chad", "data_statement.md: governance"),
    ("croissant.json", "of 60 documents", "of 61", "croissant.json: distribution.2.description"),
    ("croissant.json", '"sha256": "', '"sha256": "0', "croissant.json: distribution.0.sha256"),
    ("corpus.json", "The village", "The town", "README.md: governance"),
    ("corpus.json", "no privacy pack for sw", "no privacy pack at all", "README.md: warnings"),
]


def test_what_differs_is_named_and_nothing_else(carded, capsys):
    for file, old, new, _ in CHANGES:
        path = carded.path / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
    assert main(["card", str(carded.path), "--check"]) == 2
    lines = capsys.readouterr().out.splitlines()[:-1]
    named = {line.partition(": it does not fit")[0] for line in lines}
    assert named == {part for *_, part in CHANGES if part} | {
        # the name of a custodian and a warning are there as well
        "croissant.json: rai:dataCollectionRawData",
        "croissant.json: rai:personalSensitiveInformation.1",
    }


def test_the_changelog_has_takedowns_but_never_whom(own_corpus, capsys):
    url = str(own_corpus.path)
    request = {"kind": "subject", "keys": ["5ec4e7"]}
    entry = {"action": "remove", "stage": "overwrite", "requests": [request], "documents": 3,
             "near_duplicates": 1, "ids": ["1d1d1d"], "by_source": {"news": 3}}  # fmt: skip
    append_to_log(url, entry, None)
    append_to_log(url, {"action": "finished", "of": 1}, None)
    append_to_log(url, {**entry, "stage": "tombstone", "near_duplicates": 0}, None)
    assert main(["card", url]) == 0
    text = readme(own_corpus)
    first, second = (line for line in text.splitlines() if " documents removed" in line)
    assert first.endswith(
        ": 3 documents removed, 1 of them near-duplicates, found by subject: their bytes are "
        "overwritten."
    )
    assert second.endswith("found by subject: begun and not finished: give the command again.")
    assert "5ec4e7" not in text
    assert "1d1d1d" not in text
    append_to_log(url, {"action": "finished", "of": 3}, None)
    capsys.readouterr()
    assert main(["card", url, "--check"]) == 2
    assert "README.md: takedowns: it does not fit" in capsys.readouterr().out


def test_a_card_of_somebody_else_is_not_overwritten(own_corpus, capsys):
    path = own_corpus.path / "README.md"
    path.write_text("# Mine\n")
    assert main(["card", str(own_corpus.path)]) == 2
    assert "somebody wrote it by hand" in capsys.readouterr().err
    assert path.read_text() == "# Mine\n"
    assert not (own_corpus.path / "croissant.json").exists()


def test_mistakes_are_told(own_corpus, tmp_path, capsys):
    describe = tmp_path / "card.yaml"
    describe.write_text("motivation: 3\nlimit: x\npublished: soon\ncontacts:\n- email: x\n")
    assert main(["card", str(own_corpus.path), "--describe", str(describe)]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in ("motivation", "limit", "published", "contacts.0"))
    assert main(["card", str(own_corpus.path), "--describe", "x", "--check"]) == 2
    assert main(["card", str(own_corpus.path), "--check"]) == 2
    assert "the card is not written yet" in capsys.readouterr().err
    assert main(["card", str(tmp_path)]) == 2
    assert main(["card", "s3://bucket/corpus"]) == 2
    assert not (own_corpus.path / "README.md").exists()


@pytest.mark.parametrize(
    ("documents", "category"),
    [
        (0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9999, "1K<n<10K"),
        (10_000, "10K<n<100K"), (2_000_000, "1M<n<10M"), (10**11, "100B<n<1T"), (10**12, "n>1T"),
    ],
)  # fmt: skip
def test_size_categories(documents, category):
    assert size_category(documents) == category


def test_licences_of_the_hub():
    words = identifiers(["MIT AND (Apache-2.0 OR GPL-3.0-or-later)", "MIT", "LicenseRef-unknown"])
    assert [hub_licence(word) for word in words] == ["mit", "apache-2.0", "gpl-3.0", "unknown"]
    assert hub_licence("GFDL-1.3-only") == "gfdl"
    assert hub_licence("Beerware") == "other"
