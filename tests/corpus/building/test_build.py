import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.cli import main
from headrace.corpus.building import build
from headrace.corpus.building.build import build_corpus
from headrace.corpus.building.state import identity_of
from headrace.corpus.building.workers import local_workers
from headrace.corpus.catalogue.schema import FILTERED_SCHEMA, INDEX_SCHEMA
from headrace.corpus.documents import document_id
from headrace.corpus.privacy import make_key, subject_keys
from headrace.corpus.recipe import load_recipe
from headrace.errors import ConfigError, CorpusError
from headrace.file_hash import hash_of
from headrace.shards.reader import ShardReader
from tests.corpus.languages.fasttext_files import write_model


def documents(corpus, first: int, count: int, **more) -> list[dict]:
    return [
        {"id": f"d{number}", "text": corpus.sentence(number, 20 + number % 5), **more}
        for number in range(first, first + count)
    ]


def mixed(corpus, **sections) -> Path:
    """English and German by declaration, one licence that is denied, broken lines, a copy."""
    first = corpus.jsonl(
        "a.jsonl", [*documents(corpus, 0, 30, language="en"), "{broken", '{"id": "x"}']
    )
    second = corpus.jsonl(
        "b.jsonl",
        [
            *documents(corpus, 100, 20, language="de"),
            *documents(corpus, 200, 5, license="CC-BY-NC-4.0"),
            {"id": "copy", "text": documents(corpus, 0, 1)[0]["text"], "language": "en"},
        ],
    )
    sections = {"licences": {"deny": ["non-commercial"]}, "duplicates": {"near": None}, **sections}
    return corpus.recipe(
        {"id": "first", "files": [first]},
        {"id": "second", "files": [second], "region": "Africa"},
        output={"samples_per_shard": 8},
        **sections,
    )


def test_quality_can_be_left_unmeasured(corpus):
    """The same documents are written; the index and the page know no measures of them."""
    assert corpus.build(mixed(corpus))["counts"]["first"]["written"] == 30
    keys = pq.read_table(corpus.out / "index.parquet")["key"]
    shutil.rmtree(corpus.out)
    document = corpus.build(mixed(corpus, quality=None))
    assert document["recipe"]["quality"] is None
    index = pq.read_table(corpus.out / "index.parquet")
    assert index["key"] == keys
    assert set(index["words"].to_pylist()) == {None}
    assert not any(index["quality"].to_pylist())
    assert main(["report", str(corpus.out)]) == 0
    assert "No quality was measured." in (corpus.out / "report.html").read_text()


def test_a_model_of_languages_is_part_of_what_a_build_is(corpus):
    """Its hash is recorded, and a build that was begun with another one does not go on."""
    model = write_model(corpus.folder / "languages.bin")
    languages = {"method": "fasttext", "model": str(model), "decides": "detected"}
    rows = [{"id": "a", "text": "Wasser Fluss " * 9}, {"id": "b", "text": "river water " * 9}]
    source = {"id": "s", "files": [corpus.jsonl("a.jsonl", rows)]}
    recipe = corpus.recipe(source, languages=languages)
    document = corpus.build(recipe)
    assert set(document["languages"]) == {"de", "en"}
    assert document["recipe"]["languages"]["model"] == "languages.bin"
    assert document["language_model_hash"] == hash_of(model)
    before = identity_of(load_recipe(recipe, corpus.out))
    write_model(model, weight=8.0)
    after = identity_of(load_recipe(recipe, corpus.out))
    assert before.recipe != after.recipe
    model.unlink()
    with pytest.raises(ConfigError, match=r"languages\.model"):
        load_recipe(recipe, corpus.out)


def test_every_record_is_written_filtered_or_quarantined(corpus):
    document = corpus.build(mixed(corpus))
    counts = document["counts"]
    assert counts["first"]["read"] == 32
    assert counts["first"]["reasons"] == {"unreadable": 2}
    assert counts["second"]["rules"] == {"exact duplicate": 1, "licence": 5}
    assert counts["second"]["read"] == counts["second"]["written"] + 6 == 26
    assert not (corpus.out / ".build").exists()

    index = pq.read_table(corpus.out / "index.parquet")
    assert index.schema.equals(INDEX_SCHEMA)
    rows = index.to_pylist()
    assert {row["language"] for row in rows} == {"en", "de"}
    assert {row["region"] for row in rows if row["source"] == "second"} == {"Africa"}
    for language, about in document["languages"].items():
        reader = ShardReader(str(corpus.out / about["folder"]))
        assert reader.manifest.metadata["language"] == language
        assert reader.manifest.fingerprint == about["fingerprint"]
        own = [row for row in rows if row["language"] == language]
        samples = list(reader)
        assert [sample.key for sample in samples] == [row["id"] for row in own]
        assert [len(sample.text) for sample in samples] == [row["characters"] for row in own]
        assert [row["position"] for row in own] == [number % 8 for number in range(len(own))]
        assert samples[0].metadata["source"] == own[0]["source"]
    assert rows[0]["id"] == document_id(rows[0]["source"], rows[0]["key"])

    filtered = pq.read_table(corpus.out / "filtered.parquet")
    assert filtered.schema.equals(FILTERED_SCHEMA)
    copy = next(row for row in filtered.to_pylist() if row["rule"] == "exact duplicate")
    assert copy["key"] == "b.jsonl#copy"
    assert copy["detail"] == copy["cluster"] == document_id("first", "a.jsonl#d0")
    quarantine = corpus.rows_of(corpus.out / "quarantine.jsonl")
    assert [row["source"] for row in quarantine] == ["first", "first"]
    assert set(quarantine[0]) == {"key", "source", "file", "offset", "reason", "detail"}


@pytest.mark.slow
def test_the_bytes_are_the_same_for_any_number_of_workers(corpus):
    recipe = mixed(corpus, limits={"part": "1 kB"})
    corpus.build(recipe)
    with local_workers(3) as several:
        again = corpus.folder / "again"
        loaded = load_recipe(recipe, again)
        build_corpus(loaded, again, lambda: nullcontext(several))
    assert corpus.tree(again) == corpus.tree(corpus.out)


def test_a_repeated_key_is_quarantined_and_the_first_one_counts(corpus):
    rows = [
        *documents(corpus, 0, 5),
        {"id": "d3", "text": "another text under an old name, in English"},
    ]
    document = corpus.build(corpus.recipe({"id": "s", "files": [corpus.jsonl("a.jsonl", rows)]}))
    assert document["counts"]["s"]["reasons"] == {"repeated key": 1}
    (row,) = corpus.rows_of(corpus.out / "quarantine.jsonl")
    assert row["key"] == "a.jsonl#d3"
    index = pq.read_table(corpus.out / "index.parquet").to_pylist()
    kept = next(row for row in index if row["key"] == "a.jsonl#d3")
    assert kept["characters"] == len(documents(corpus, 3, 1)[0]["text"])


def test_too_many_rejects_fail_and_a_raised_limit_goes_on_with_what_was_done(corpus, monkeypatch):
    rows = [*documents(corpus, 0, 40), *["{broken"] * 30]
    source = {"id": "s", "files": [corpus.jsonl("a.jsonl", rows)]}
    with pytest.raises(CorpusError) as caught:
        corpus.build(corpus.recipe(source))
    (problem,) = caught.value.problems
    assert problem.where == "sources.0 (s)"
    assert problem.value == "30 of 70: unreadable 30"
    assert not (corpus.out / "corpus.json").exists()

    monkeypatch.setattr(build, "examine_part", None)  # nothing is examined again
    document = corpus.build(corpus.recipe(source, limits={"rejected_share": 0.5}))
    assert document["counts"]["s"]["quarantined"] == 30


def test_a_source_of_which_nothing_can_be_used_ends_the_build_early(corpus, monkeypatch):
    good = [corpus.jsonl("good.jsonl", documents(corpus, 0, 40))]
    bad = [corpus.jsonl(f"bad{n:02}.jsonl", ["{broken"] * 10) for n in range(40)]
    sources = {"id": "good", "files": good}, {"id": "bad", "files": bad}
    small = {"part": "2 kB"}
    with pytest.raises(CorpusError) as caught:
        corpus.build(corpus.recipe(*sources, limits=small))
    (problem,) = caught.value.problems
    assert problem.where == "sources.1 (bad)"
    rejected, read = problem.value.partition(" so far")[0].split(" of ")
    assert rejected == read
    done = {row["part"] for row in corpus.rows_of(corpus.out / ".build" / "parts.jsonl")}
    assert 20 < int(read) < 200, "neither at the first bad record nor at the end"

    examined = []

    def counted(part, *rest, examine=build.examine_part):
        examined.append(part.number)
        return examine(part, *rest)

    with pytest.raises(CorpusError, match="too many"):
        corpus.build(corpus.recipe(*sources, limits=small))
    monkeypatch.setattr(build, "examine_part", counted)
    document = corpus.build(corpus.recipe(*sources, limits={**small, "rejected_share": 1.0}))
    assert document["counts"]["bad"]["quarantined"] == 400
    assert examined
    assert not done.intersection(examined), "what was done is not done again"


def test_a_bad_beginning_of_a_source_that_is_good_as_a_whole_ends_nothing(corpus):
    bad = corpus.jsonl("a.jsonl", ["{broken"] * 30)
    good = [corpus.jsonl(f"b{n}.jsonl", documents(corpus, 70 * n, 70)) for n in range(10)]
    recipe = corpus.recipe({"id": "s", "files": [bad, *good]}, limits={"part": "5 kB"})
    counts = corpus.build(recipe)["counts"]["s"]
    assert (counts["read"], counts["quarantined"]) == (730, 30)


def test_a_finished_corpus_stays_and_another_one_is_not_mixed_into_it(corpus):
    source = {"id": "s", "files": [corpus.jsonl("a.jsonl", documents(corpus, 0, 5))]}
    first = corpus.build(corpus.recipe(source))
    before = corpus.tree(corpus.out)
    assert corpus.build(corpus.recipe(source)) == first
    assert corpus.tree(corpus.out) == before

    other = corpus.recipe({**source, "region": "Asia"})
    with pytest.raises(CorpusError, match="a finished corpus of another recipe"):
        corpus.build(other)
    assert corpus.tree(corpus.out) == before
    assert corpus.build(other, overwrite=True)["sources"][0]["region"] == "Asia"

    (corpus.out / "takedowns.jsonl").write_text("{}\n")
    with pytest.raises(CorpusError, match="documents were removed"):
        corpus.build(corpus.recipe(source), overwrite=True)


def test_a_folder_with_other_things_in_it_is_left_alone(corpus):
    corpus.out.mkdir()
    (corpus.out / "thesis.txt").write_text("years of work")
    source = {"id": "s", "files": [corpus.jsonl("a.jsonl", documents(corpus, 0, 5))]}
    for overwrite in (False, True):
        with pytest.raises(CorpusError, match=r"thesis\.txt"):
            corpus.build(corpus.recipe(source), overwrite=overwrite)
    assert corpus.tree(corpus.out).keys() == {"thesis.txt"}


def test_a_file_that_changes_or_vanishes_goes_into_quarantine(corpus, workers):
    good = corpus.jsonl("good.jsonl", documents(corpus, 0, 5))
    changed = corpus.jsonl("changed.jsonl", documents(corpus, 10, 5))
    gone = corpus.jsonl("gone.jsonl", documents(corpus, 20, 5))
    recipe = corpus.recipe({"id": "s", "files": [good, changed, gone]})
    loaded = load_recipe(recipe, corpus.out)
    corpus.jsonl("changed.jsonl", documents(corpus, 30, 6))
    Path(gone).unlink()
    document = build_corpus(loaded, corpus.out, workers)
    assert document["counts"]["s"]["reasons"] == {"changed while read": 2}
    assert document["counts"]["s"]["written"] == 5
    assert any("changed while they were read" in warning for warning in document["warnings"])
    details = {row["key"]: row["detail"] for row in corpus.rows_of(corpus.out / "quarantine.jsonl")}
    assert details == {"changed.jsonl": "size or time of the file", "gone.jsonl": "no such file"}


def test_a_file_that_changes_in_the_middle_gives_no_document(corpus, hostile_reader):
    for name, line in (("a", "READING TOUCH"), ("b", corpus.sentence(1))):
        path = corpus.folder / f"{name}.hostile"
        path.write_text(f"{corpus.sentence(0)} {name}\n{line}\n{corpus.sentence(2)} {name}\n")
    recipe = corpus.recipe(
        {"id": "s", "files": [str(corpus.folder / "?.hostile")], "format": "hostile"}
    )
    counts = corpus.build(recipe)["counts"]["s"]
    assert (counts["read"], counts["written"]) == (4, 3)
    assert counts["reasons"] == {"changed while read": 1}
    index = pq.read_table(corpus.out / "index.parquet")
    assert {row["key"].partition("#")[0] for row in index.to_pylist()} == {"b.hostile"}


def test_an_interrupted_build_does_not_go_on_with_other_files(corpus):
    path = corpus.jsonl("a.jsonl", [*documents(corpus, 0, 5), *["{"] * 40])
    recipe = corpus.recipe({"id": "s", "files": [path]})
    with pytest.raises(CorpusError, match="too many"):
        corpus.build(recipe)
    corpus.jsonl("a.jsonl", documents(corpus, 0, 6))
    with pytest.raises(CorpusError, match="the files of the sources"):
        corpus.build(recipe)
    assert corpus.build(recipe, overwrite=True)["counts"]["s"]["written"] == 6


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_the_build_goes_on_when_there_is_room(corpus, small_disk):
    """The parts fit on the disk, the shards do not; then it becomes larger."""
    path = corpus.jsonl("a.jsonl", documents(corpus, 0, 3000))
    recipe = corpus.recipe({"id": "s", "files": [path]}, limits={"part": "100 kB"})
    disk = corpus.folder / "small"
    build = f"{sys.executable} -m headrace.cli build --recipe {recipe} --output {disk}/out"
    build += " --workers 1 --keep-intermediate"
    look = f"stat -c 'part %n %y' {disk}/out/.build/parts/*.parquet"
    script = (
        f"{build}; echo ended $?; {look}; "
        f"mount -o remount,size=100m {disk}; {build}; echo ended $?; {look}"
    )
    prefix = small_disk("2000k")
    assert prefix[-1] == "sh"
    ended = subprocess.run([*prefix, "sh", "-c", script], capture_output=True, text=True)
    codes = [line for line in ended.stdout.splitlines() if line.startswith("ended")]
    assert codes == ["ended 2", "ended 0"], ended.stderr
    assert "Traceback" not in ended.stderr
    assert "No space left on device" in ended.stderr
    parts = [line for line in ended.stdout.splitlines() if line.startswith("part ")]
    half = len(parts) // 2
    assert half
    assert parts[:half] == parts[half:], "parts that were done are not done again"


def test_private_information_is_nowhere_in_the_corpus(corpus):
    key = corpus.folder / "keys" / "key"
    secret = make_key(key)
    address = "anna.keller@firma.de"
    rows = [
        {"id": address, "text": f"Please write to {address} about the mill in our village."},
        {"id": "b", "text": f"{corpus.sentence(1)} tel. +49 30 901820", "title": f"To {address}"},
        {"id": "c", "text": "x", "url": f"https://example.com/?to={address}", "by": address},
        {"id": "d", "text": f"{corpus.sentence(2)} 4111 1111 1111 1111 card number"},
        f'{{"id": "{address}", "no": 1}}',
    ]
    recipe = corpus.recipe(
        {
            "id": "s",
            "files": [corpus.jsonl("a.jsonl", rows)],
            "language": "en",
            "fields": {"metadata": ["by"]},
        },
        privacy={"mode": "pseudonym", "key": str(key), "modes": {"CREDIT_CARD": "drop"}},
    )
    document = corpus.build(recipe, keep_intermediate=True)
    assert document["counts"]["s"]["rules"] == {"private information": 1}
    for path in corpus.out.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"anna.keller" not in data, path
            if path.suffix == ".parquet":
                for column in pq.read_table(path).columns:
                    assert "anna.keller" not in str(column.to_pylist()), path
    index = pq.read_table(corpus.out / "index.parquet").to_pylist()
    wanted = set(subject_keys(address, secret))
    origins = pq.read_table(corpus.out / "origins.parquet").to_pylist()
    assert [row["id"] for row in origins[: len(index)]] == [row["id"] for row in index]
    assert [bool(wanted & set(row["subject_keys"])) for row in origins[:2]] == [True, False]
    assert document["private"]["PHONE"] == 1


def test_tables_need_not_have_columns_that_the_recipe_does_not_name(corpus):
    folder = corpus.folder / "in"
    folder.mkdir()
    texts = [corpus.sentence(number) for number in range(3)]
    (folder / "a.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts))
    pq.write_table(pa.table({"text": texts}), folder / "b.parquet")
    source = {"id": "s", "files": [str(folder / "*")]}
    counts = corpus.build(corpus.recipe(source))["counts"]["s"]
    assert (counts["read"], counts["written"]) == (6, 6)
    with pytest.raises(CorpusError, match="no document is left"):  # a column that is not there
        corpus.build(corpus.recipe({**source, "fields": {"url": "url"}}), out="named")


def test_no_document_at_all_is_an_error(corpus):
    path = corpus.jsonl("a.jsonl", documents(corpus, 0, 3, license="CC-BY-NC-4.0"))
    recipe = corpus.recipe({"id": "s", "files": [path]}, licences={"deny": ["non-commercial"]})
    with pytest.raises(CorpusError, match="no document is left"):
        corpus.build(recipe)


def test_files_without_an_end_of_line_and_of_no_bytes_are_counted(corpus):
    empty = corpus.folder / "in" / "empty.jsonl"
    corpus.jsonl("a.jsonl", documents(corpus, 0, 3))
    empty.write_bytes(b"")
    recipe = corpus.recipe({"id": "s", "files": [str(corpus.folder / "in" / "*.jsonl")]})
    counts = corpus.build(recipe)["counts"]["s"]
    assert (counts["read"], counts["written"], counts["reasons"]) == (4, 3, {"empty": 1})


def test_the_record_of_the_corpus_says_what_it_is_made_of(corpus):
    document = corpus.build(mixed(corpus))
    stored = json.loads((corpus.out / "corpus.json").read_bytes())
    assert stored == document
    assert [source["id"] for source in stored["sources"]] == ["first", "second"]
    assert stored["sources"][0]["custodian"] == "The library"
    assert stored["recipe"]["licences"]["deny"] == ["non-commercial"]
    assert stored["duplicates"]["removed"]["exact duplicate"] == 1
    assert {"headrace", "pyarrow", "py3langid"} <= stored["versions"].keys()
