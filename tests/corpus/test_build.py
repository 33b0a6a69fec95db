from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headrace.cli import main
from headrace.corpus.build import build_source
from headrace.errors import CorpusError, LabelError, ShardError
from headrace.shards import ShardReader, read_manifest

TAGS = ("O", "B-Artist", "I-Artist", "B-Facility", "O")


def conll(count: int, start: int = 0, domain: str = "en") -> str:
    return "".join(
        f"# id s{number}\tdomain={domain}\n"
        + "".join(f"w{number * position} _ _ {tag}\n" for position, tag in enumerate(TAGS))
        + "\n"
        for number in range(start, start + count)
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "en_train.conll"
    path.write_text(conll(100))
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def build(corpus: Path, output: Path, *options: str) -> int:
    command = ["build", str(corpus), "--output", str(output), "--language", "en"]
    return main([*command, "--samples-per-shard", "30", *options])


def test_the_source_and_its_summary(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    options = ("--split-name", "train", "--labels", "multiconer_v2", "--subset", "clean")
    assert build(corpus, output, *options) == 0
    manifest = read_manifest(str(output))
    assert [shard.name for shard in manifest.shards] == [
        f"train-{number:06d}.tar" for number in range(4)
    ]
    metadata = manifest.metadata
    assert metadata["language"] == "en"
    assert (metadata["sentences"], metadata["tokens"]) == (100, 500)
    assert metadata["entities"] == {"Artist": 100, "Facility": 100}
    assert (metadata["split"], metadata["subset"]) == ("train", "clean")
    assert [entry["name"] for entry in metadata["inputs"]] == ["en_train.conll"]
    (first, *_) = ShardReader(str(output))
    assert first.metadata == {
        "id": "s0",
        "language": "en",
        "tokens": ["w0"] * 5,
        "tags": list(TAGS),
        "domain": "en",
        "subset": "clean",
    }
    words = capsys.readouterr().out.split()
    for name, value in (("sentences", "100"), ("tokens", "500"), ("entities", "200")):
        assert words[words.index(name) + 1] == value


def test_the_same_again_changes_nothing_and_another_build_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    build(corpus, output)
    stamps = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    assert build(corpus, output) == 0
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == stamps
    assert build(corpus, output, "--limit", "50") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert build(corpus, output, "--limit", "50", "--overwrite") == 0
    assert len(ShardReader(str(output))) == 50


def test_two_builds_give_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    build(corpus, tmp_path / "a")
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / corpus.name).write_bytes(corpus.read_bytes())
    build(other / corpus.name, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_several_inputs_in_their_order_and_limit(corpus: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.conll"
    more.write_text(conll(10, 100))
    manifest = build_source([str(more), str(corpus)], str(tmp_path / "out"), "en", limit=15)
    keys = [sample.key for sample in ShardReader(str(tmp_path / "out"))]
    assert keys == [f"s{number}" for number in (*range(100, 110), *range(5))]
    assert manifest.metadata["sentences"] == 15


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"# id a\tdomain=en\nx _ _ O\ny _ O\n", 3),
        (b"# id a\tdomain=en\nx _ _ I-A\n", 2),
        (b"", 1),
        (b"# id a\tdomain=en\r\nx _ _ O\r\n", 1),
        (b"\xef\xbb\xbf# id a\tdomain=en\nx _ _ O\n", 1),
        (b"# id a\tdomain=en\nx\xff _ _ O\n", 2),
    ],
    ids=["columns", "I- without B-", "empty", "Windows line ends", "BOM", "not UTF-8"],
)
def test_malformed_input_one_message_exit_code_2_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, line: int
) -> None:
    path = tmp_path / "bad.conll"
    path.write_bytes(content)
    assert build(path, tmp_path / "out") == 2
    errors = [text for text in capsys.readouterr().err.splitlines() if "bad.conll" in text]
    assert len(errors) == 1
    assert f"{path}:{line}: " in errors[0]
    assert "Traceback" not in errors[0]
    assert not (tmp_path / "out").exists()


def test_problems_of_all_inputs_at_once(corpus: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.conll").write_text("x _ _ I-A\n")
    inputs = [str(tmp_path / "a.conll"), str(corpus), str(tmp_path / "b.conll")]
    with pytest.raises(CorpusError) as caught:
        build_source([*inputs, str(tmp_path / "none")], str(tmp_path / "out"), "en")
    assert [problem.where for problem in caught.value.problems] == [
        f"{inputs[0]}:1",
        f"{inputs[2]}:1",
        str(tmp_path / "none"),
    ]


def test_a_key_in_two_inputs_names_both_lines(corpus: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.conll"
    more.write_text(conll(1, 200) + conll(1, 1))
    with pytest.raises(CorpusError) as caught:
        build_source([str(corpus), str(more)], str(tmp_path / "out"), "en")
    (problem,) = caught.value.problems
    assert problem.where == f"{more}:8"
    assert f"{corpus}:8" in problem.what
    assert problem.value == "s1"
    assert not (tmp_path / "out").exists()


def test_an_input_named_twice(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="named twice"):
        build_source([str(corpus), str(corpus)], str(tmp_path / "out"), "en")
    copy = tmp_path / "copy.conll"
    copy.write_bytes(corpus.read_bytes())
    with pytest.raises(CorpusError) as caught:
        build_source([str(corpus), str(copy)], str(tmp_path / "out"), "en")
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1].what.startswith("80 more keys")


def test_unknown_tags_are_named_once_with_their_line(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError) as caught:
        build_source([str(corpus)], str(tmp_path / "out"), "en", labels="conll2003")
    assert [(p.where, p.value) for p in caught.value.problems] == [
        (f"{corpus}:3", "B-Artist"),
        (f"{corpus}:5", "B-Facility"),
    ]
    with pytest.raises(LabelError):
        build_source([str(corpus)], str(tmp_path / "out"), "en", labels="no_such_labels")


def test_repair_is_counted_in_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "windows.conll"
    path.write_bytes(b"\xef\xbb\xbf# id a\tdomain=en\r\nx _ _ I-A\r\n")
    assert build(path, tmp_path / "out") == 2
    assert capsys.readouterr().err.count("--repair") == 3
    assert build(path, tmp_path / "out", "--repair") == 0
    assert read_manifest(str(tmp_path / "out")).metadata["repairs"] == {
        "byte_order_marks": 1,
        "inside_tags_without_begin": 1,
        "windows_line_ends": 2,
    }


@pytest.mark.parametrize(
    "options",
    [
        {"language": "english!"},
        {"split": "../x"},
        {"subset": "a b"},
        {"limit": 0},
        {"format": "xml"},
        {"inputs": []},
    ],
)
def test_options_that_are_refused(corpus: Path, tmp_path: Path, options: dict[str, object]) -> None:
    arguments = {"inputs": [str(corpus)], "language": "en", **options}
    with pytest.raises(CorpusError):
        build_source(output_url=str(tmp_path / "out"), **arguments)  # type: ignore[arg-type]


def test_another_language_in_the_headers_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hi.conll"
    path.write_text(conll(2, domain="hi"))
    assert build(path, tmp_path / "out") == 0
    assert "domain=hi" in capsys.readouterr().out


def test_kill_9_and_start_again(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kill_at_sample: Callable[[int, Sequence[str]], None],
) -> None:
    """The command, killed in its third shard, then started again, then with other input."""
    output = tmp_path / "killed"
    arguments = ["build", str(corpus), "--output", str(output), "--language", "en"]
    arguments += ["--samples-per-shard", "30"]
    kill_at_sample(75, arguments)
    left = sorted(files(output))
    assert [name for name in left if name.endswith(".tar")] == [
        "shard-000000.tar",
        "shard-000001.tar",
    ]
    assert any(name.endswith(".part") for name in left)
    with pytest.raises(ShardError, match="interrupted"):
        ShardReader(str(output))
    stamps = {path.name: path.stat().st_mtime_ns for path in output.glob("*.tar")}

    changed = tmp_path / "changed" / corpus.name
    changed.parent.mkdir()
    changed.write_text(conll(99))
    assert build(changed, output) == 2
    assert "another input" in capsys.readouterr().err

    assert build(corpus, output) == 0
    assert build(corpus, tmp_path / "whole") == 0
    assert files(output) == files(tmp_path / "whole")
    for name, stamp in stamps.items():
        assert (output / name).stat().st_mtime_ns == stamp


def test_every_command_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("build", "index", "verify", "preview"):
        with pytest.raises(SystemExit) as caught:
            main([name, "--help"])
        assert caught.value.code == 0
        assert f"headrace {name}" in capsys.readouterr().out


def test_the_scripts_are_the_commands() -> None:
    root = Path(__file__).parents[2]
    for name in ("build", "index", "verify", "preview"):
        text = (root / "shards" / f"{name}.py").read_text()
        assert f'main(["{name}", *sys.argv[1:]])' in text


def test_preview_shows_entities_and_counts(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    build(corpus, output)
    capsys.readouterr()
    assert main(["preview", str(output), "-n", "2"]) == 0
    shown = capsys.readouterr().out
    assert "w0 [w1 w2 Artist] [w3 Facility] w4" in shown
    assert "100 samples in 4 shards" in shown
    assert "languages shown: en 2" in shown
    assert main(["preview", str(output), "--key", "s77"]) == 0
    assert "w0 [w77 w154 Artist] [w231 Facility] w308" in capsys.readouterr().out
    assert main(["preview", str(output), "--key", "nope"]) == 2


def test_preview_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "red \\u001b[31m alert"}\n')
    build(path, tmp_path / "out")
    main(["preview", str(tmp_path / "out")])
    assert "\x1b" not in capsys.readouterr().out


def test_index_command(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    build(corpus, output)
    before = read_manifest(str(output))
    for path in (*output.glob("*.idx"), output / "manifest.json"):
        path.unlink()
    assert main(["index", str(output), "--language", "en"]) == 0
    after = read_manifest(str(output))
    assert (after.shards, after.metadata) == (before.shards, {"language": "en"})
    assert before.fingerprint in capsys.readouterr().out


def test_remote_output(corpus: Path, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/out"
    build_source([str(corpus)], url, "en", samples_per_shard=30)
    build_source([str(corpus)], str(tmp_path / "out"), "en", samples_per_shard=30)
    assert list(ShardReader(url)) == list(ShardReader(str(tmp_path / "out")))
    assert ShardReader(url).manifest == read_manifest(str(tmp_path / "out"))
