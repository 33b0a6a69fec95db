from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headrace.cli import main
from headrace.corpus.augment import augment_source
from headrace.corpus.build import build_source
from headrace.errors import CorpusError, ShardError
from headrace.shards import ShardReader, read_manifest


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A source of 300 questions in two languages' letters."""
    folder = tmp_path_factory.mktemp("questions")
    lines = [
        {
            "id": f"q{number}",
            "context": f"The traveller with number {number} asked for the way.",
            "choices": [f"He was shown it ({number}).", "उसे रास्ता नहीं मिला", "Never mind."],
            "label": number % 3,
        }
        for number in range(300)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "q.jsonl").write_text(text, encoding="utf-8")
    build_source([str(folder / "q.jsonl")], str(folder / "source"), "en", split="train")
    return str(folder / "source")


def read_all(url: object) -> dict[str, dict[str, object]]:
    return {sample.key: sample.metadata for sample in ShardReader(str(url))}


def test_the_paper_s_numbers(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"id": n, "text": f"story {n}"}) + "\n" for n in range(1871))
    (tmp_path / "s.jsonl").write_text(lines)
    build_source([str(tmp_path / "s.jsonl")], str(tmp_path / "source"), "en")
    manifest = augment_source(str(tmp_path / "source"), str(tmp_path / "out"))
    assert manifest.samples == 3742
    copies = Counter(s.metadata.get("copy_of") for s in ShardReader(str(tmp_path / "out")))
    assert copies.pop(None) == 1871
    assert sorted(copies.values()) == [71, *[100] * 18]


def test_copies_follow_the_samples_and_say_what_they_are_of(questions: str, tmp_path: Path) -> None:
    manifest = augment_source(questions, str(tmp_path / "out"), share=0.02, copies=7, seed=3)
    before, after = read_all(questions), read_all(tmp_path / "out")
    assert manifest.samples == len(after) == 300 + 42
    assert list(after)[:300] == list(before)
    assert {key: after[key] for key in before} == before
    copies = {key: row for key, row in after.items() if key not in before}
    for key, row in copies.items():
        assert row["id"] == key
        original = row["copy_of"]
        assert {**row, "id": original} == {**before[original], "copy_of": original}
    assert set(Counter(row["copy_of"] for row in copies.values()).values()) == {7}
    metadata = manifest.metadata
    assert metadata["augmentation"] == {
        "share": 0.02, "copies": 7, "noise": 0.0, "seed": 3, "drawn": 6, "added": 42,
    }  # fmt: skip
    assert metadata["sentences"] == 342
    assert sum(metadata["answers"].values()) == 342
    assert (metadata["language"], metadata["split"], metadata["choices"]) == ("en", "train", 3)
    assert manifest.parent == read_manifest(questions).fingerprint


def test_the_draw_depends_on_keys_and_seed_alone(questions: str, tmp_path: Path) -> None:
    def drawn(name: str, **settings: object) -> set[object]:
        augment_source(questions, str(tmp_path / name), share=0.05, **settings)  # type: ignore[arg-type]
        return {row["copy_of"] for row in read_all(tmp_path / name).values() if "copy_of" in row}

    one = drawn("a", copies=3, seed=1)
    assert len(one) == 15
    assert drawn("b", copies=2, seed=1, noise=0.1) == one
    assert drawn("c", copies=3, seed=2) != one


def test_near_copies_differ_and_keep_the_answer(questions: str, tmp_path: Path) -> None:
    augment_source(questions, str(tmp_path / "out"), share=0.01, copies=50, noise=0.1)
    after = ShardReader(str(tmp_path / "out"))
    before = read_all(questions)
    copies = [sample for sample in after if "copy_of" in sample.metadata]
    assert len({sample.text for sample in copies}) > 140
    for sample in copies:
        row = sample.metadata
        original = before[row["copy_of"]]
        assert row["label"] == original["label"]
        assert len(row["choices"]) == len(original["choices"])
        assert row["context"].split()[4:5] == original["context"].split()[4:5]  # the number
        assert sample.text == f"{row['context']} {row['choices'][row['label']]}"


def test_near_copies_of_pairs_keep_their_label(tmp_path: Path) -> None:
    lines = ["sentence1\tsentence2\tlabel"]
    lines += [f"The mill by the river {n}\tGrinds the grain {n}\tyes" for n in range(20)]
    (tmp_path / "t.tsv").write_text("\n".join(lines) + "\n")
    build_source([str(tmp_path / "t.tsv")], str(tmp_path / "source"), "en")
    settings = {"share": 0.5, "copies": 4, "noise": 0.3}
    manifest = augment_source(str(tmp_path / "source"), str(tmp_path / "out"), **settings)  # type: ignore[arg-type]
    copies = [s for s in ShardReader(str(tmp_path / "out")) if "copy_of" in s.metadata]
    assert manifest.metadata["labels"] == {"yes": 60}
    originals = read_all(tmp_path / "source")
    for sample in copies:
        row = sample.metadata
        assert sample.text == f"{row['text']}\n{row['pair']}"
        assert row["label"] == "yes"
    for name in ("text", "pair"):
        assert any(s.metadata[name] != originals[s.metadata["copy_of"]][name] for s in copies)


def test_tokens_keep_their_tags(tmp_path: Path) -> None:
    rows = [{"tokens": ["New", "York", "7"], "tags": ["B-LOC", "I-LOC", "O"]}] * 20
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_source([str(tmp_path / "t.jsonl")], str(tmp_path / "source"), "en")
    settings = {"share": 0.5, "copies": 4, "noise": 0.5}
    manifest = augment_source(str(tmp_path / "source"), str(tmp_path / "out"), **settings)  # type: ignore[arg-type]
    copies = [s for s in ShardReader(str(tmp_path / "out")) if "copy_of" in s.metadata]
    assert len(copies) == 40
    assert manifest.metadata["entities"] == {"LOC": 60}
    for sample in copies:
        assert sample.metadata["tags"] == ["B-LOC", "I-LOC", "O"]
        assert sample.text == " ".join(sample.metadata["tokens"])
        assert len(sample.text.split()) == 3
    assert any(sample.text != "New York 7" for sample in copies)


def test_the_command_again_does_nothing_and_other_settings_are_refused(
    questions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["augment", questions, "--output", str(tmp_path / "out"), "--share", "0.05"]
    command += ["--copies", "10"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "450 samples, of which 150 are copies of 15" in printed
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == stamps
    assert main([*command, "--seed", "2"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_wrong_settings_are_named_as_options_all_at_once(
    questions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["augment", questions, "--output", str(tmp_path / "out"), "--share", "0"]
    assert main([*command, "--copies", "0", "--noise", "2"]) == 2
    errors = capsys.readouterr().err
    assert all(f"error: {option}: " in errors for option in ("--share", "--copies", "--noise"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(CorpusError, match="not a single copy"):
        augment_source(questions, str(tmp_path / "out"), share=0.001, copies=1)


def test_copies_of_a_source_with_copies(questions: str, tmp_path: Path) -> None:
    augment_source(questions, str(tmp_path / "once"), share=1.0, copies=1)
    with pytest.raises(CorpusError, match="the key of a copy"):
        augment_source(str(tmp_path / "once"), str(tmp_path / "twice"), share=1.0, copies=1)
    with pytest.raises(ShardError):
        augment_source(str(tmp_path / "nowhere"), str(tmp_path / "out"))


def test_kill_9_and_start_again(
    questions: str, tmp_path: Path, kill_at_sample: Callable[[int, Sequence[str]], None]
) -> None:
    options = ["--share", "0.05", "--copies", "20", "--noise", "0.2", "--samples-per-shard", "90"]
    command = ["augment", questions, "--output", str(tmp_path / "killed"), *options]
    kill_at_sample(400, command)
    with pytest.raises(ShardError, match="interrupted"):
        ShardReader(str(tmp_path / "killed"))
    assert main(command) == 0
    whole = ["augment", questions, "--output", str(tmp_path / "whole"), *options]
    assert main(whole) == 0
    killed, whole_files = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("killed", "whole")
    )
    assert killed == whole_files


def tagged_source(folder: Path) -> str:
    words = [["Der", "alte", "Bahnhof", "von", "Düsseldorf"], ["Das", "Modell", "1998"]]
    tags = [["O", "O", "O", "O", "B-LOC"], ["O", "B-PROD", "I-PROD"]]
    rows = [{"id": f"s{n}", "tokens": words[n % 2], "tags": tags[n % 2]} for n in range(40)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_source([str(folder / "t.jsonl")], str(folder / "source"), "de", subset="plain")
    return str(folder / "source")


def test_noisy_copies_beside_their_originals_are_subsets(tmp_path: Path) -> None:
    source = tagged_source(tmp_path)
    command = ["augment", source, "--output", str(tmp_path / "out"), "--share", "1"]
    command += ["--copies", "1", "--noise", "typing:0.1,ocr:0.1,casing:0.2", "--subsets"]
    assert main(command) == 0
    before, after = read_all(source), read_all(tmp_path / "out")
    assert len(after) == 80
    noisy = [row for row in after.values() if row["subset"] == "noisy"]
    assert len(noisy) == 40
    changed = 0
    for row in noisy:
        original = before[str(row["copy_of"])]
        assert row["tags"] == original["tags"]
        assert len(row["tokens"]) == len(original["tokens"])  # type: ignore[arg-type]
        assert after[str(row["copy_of"])] == {**original, "subset": "clean"}
        changed += row["tokens"] != original["tokens"]
    assert changed > 30
    manifest = read_manifest(str(tmp_path / "out"))
    assert manifest.metadata["augmentation"] == {
        "share": 1.0, "copies": 1, "noise": {"typing": 0.1, "ocr": 0.1, "casing": 0.2},
        "seed": 1, "subsets": True, "drawn": 40, "added": 40,
    }  # fmt: skip
    assert "subset" not in manifest.metadata
    assert manifest.parent == read_manifest(source).fingerprint


def test_copies_alone_are_a_source_to_mix_in(tmp_path: Path) -> None:
    source = tagged_source(tmp_path)
    settings = {"share": 1.0, "copies": 2, "only_copies": True}
    manifest = augment_source(source, str(tmp_path / "out"), noise="typing:0.2", **settings)  # type: ignore[arg-type]
    rows = read_all(tmp_path / "out")
    assert manifest.samples == len(rows) == 80
    assert Counter(row["copy_of"] for row in rows.values()) == dict.fromkeys(read_all(source), 2)
    # each copy has errors of its own
    assert len({" ".join(row["tokens"]) for row in rows.values()}) > 60  # type: ignore[arg-type]
    again = augment_source(source, str(tmp_path / "b"), noise="typing:0.2", **settings)  # type: ignore[arg-type]
    assert again.fingerprint == manifest.fingerprint
    assert read_all(tmp_path / "b") == rows
    other = augment_source(source, str(tmp_path / "c"), noise="typing:0.2", seed=2, **settings)  # type: ignore[arg-type]
    assert other.fingerprint != manifest.fingerprint


def test_a_wrong_kind_of_noise_is_named_with_all_else(
    questions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["augment", questions, "--output", str(tmp_path / "out"), "--copies", "0"]
    assert main([*command, "--noise", "typos:0.1,ocr:7"]) == 2
    errors = capsys.readouterr().err
    assert errors.count("error: --noise: ") == 2
    assert "casing, ocr, text_casing, typing" in errors
    assert "error: --copies: " in errors
