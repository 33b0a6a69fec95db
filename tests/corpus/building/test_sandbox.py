import pytest

from headrace.corpus.building.part_work import examine_part
from headrace.corpus.building.parts import Part, Slice
from headrace.corpus.building.sandbox import Sandbox, SandboxSettings, borrowed, close_idle
from headrace.corpus.recipe import load_recipe


def hostile(corpus, name: str, lines: list[str], **limits):
    path = corpus.folder / f"{name}.hostile"
    path.write_text("".join(f"{line}\n" for line in lines))
    limits = {"seconds": 1.0, "memory": "1 GB", "rejected_records": 10_000, **limits}
    return corpus.recipe({"id": "s", "files": [str(path)], "format": "hostile"}, limits=limits)


def quarantined(corpus) -> dict[str, tuple[str, str]]:
    rows = corpus.rows_of(corpus.out / "quarantine.jsonl")
    return {row["key"]: (row["reason"], row["detail"]) for row in rows}


@pytest.mark.slow
def test_a_document_that_hangs_eats_memory_or_crashes_costs_itself_alone(corpus, hostile_reader):
    lines = [corpus.sentence(number) for number in range(12)]
    lines[2] = "LOOP in Python"
    lines[5] = "BOMB of a terabyte"
    lines[6] = "RAISE something private"
    lines[9] = "STUCK in C"
    lines[10] = "ABORT now"
    counts = corpus.build(hostile(corpus, "a", lines))["counts"]["s"]
    assert (counts["read"], counts["written"]) == (12, 7)
    found = quarantined(corpus)
    assert {key: reason for key, (reason, _) in found.items()} == {
        "a.hostile#2": "time limit",
        "a.hostile#5": "memory limit",
        "a.hostile#6": "crashed",
        "a.hostile#9": "time limit",
        "a.hostile#10": "crashed",
    }
    assert found["a.hostile#6"][1].startswith("normalise: RuntimeError at hostile.py:")
    assert found["a.hostile#10"][1] == "ended by signal 6"
    assert "private" not in (corpus.out / "quarantine.jsonl").read_text()


def test_what_is_lost_when_the_reading_itself_dies_is_said(corpus, hostile_reader):
    lines = [corpus.sentence(0), corpus.sentence(1), "READING ABORT", corpus.sentence(3)]
    other = corpus.folder / "b.hostile"
    other.write_text(corpus.sentence(7) + "\n")
    recipe = hostile(corpus, "a", lines)
    recipe.write_text(recipe.read_text().replace("a.hostile", "?.hostile"))
    counts = corpus.build(recipe)["counts"]["s"]
    assert (counts["read"], counts["written"], counts["reasons"]) == (4, 3, {"crashed": 1})
    (detail,) = (detail for _, detail in quarantined(corpus).values())
    assert detail == "ended by signal 6; reading ended behind record 2 of this part"


def test_the_clock_ends_what_takes_no_processor_time(corpus, hostile_reader):
    recipe = hostile(
        corpus, "a", [corpus.sentence(0), "SLEEP well", corpus.sentence(2)], seconds=0.2
    )
    counts = corpus.build(recipe)["counts"]["s"]
    assert (counts["written"], counts["reasons"]) == (2, {"time limit": 1})
    assert quarantined(corpus)["a.hostile#1"] == ("time limit", "more than 2 s by the clock")


@pytest.mark.slow
@pytest.mark.extended
def test_one_poisoned_document_in_a_hundred_leaves_the_others(corpus, hostile_reader):
    lines = [corpus.sentence(number) for number in range(1500)]
    poison = ("ABORT a", "BOMB b", "RAISE c")
    for number in range(50, 1500, 100):
        lines[number] = poison[number // 100 % 3]
    counts = corpus.build(hostile(corpus, "a", lines))["counts"]["s"]
    assert (counts["read"], counts["written"], counts["quarantined"]) == (1500, 1485, 15)


def test_a_process_that_died_leaves_no_process_behind(corpus, hostile_reader):
    recipe = hostile(corpus, "a", [corpus.sentence(0), corpus.sentence(1)])
    loaded = load_recipe(recipe, corpus.out)
    settings = SandboxSettings(loaded.recipe.model_dump_json(), 10**9, 5.0)
    sandbox = Sandbox(settings)
    rows = list(sandbox.rows(Slice(loaded.files[0], 0, None), "s"))
    assert [row["outcome"] for row in rows] == ["kept", "kept"]
    process = sandbox._process
    assert process is not None
    process.kill()
    again = list(sandbox.rows(Slice(loaded.files[0], 0, None), "s"))
    assert again == rows
    sandbox.close()
    assert process.poll() is not None


def test_the_same_part_gives_the_same_bytes(corpus, hostile_reader):
    lines = [corpus.sentence(0), "RAISE x", corpus.sentence(2)]
    loaded = load_recipe(hostile(corpus, "a", lines), corpus.out)
    settings = SandboxSettings(loaded.recipe.model_dump_json(), 10**9, 5.0)
    part = Part(0, (Slice(loaded.files[0], 0, None),))
    for name in ("one", "two"):
        (corpus.folder / name / "parts").mkdir(parents=True)
    one, two = (
        examine_part(part, settings, "s", str(corpus.folder / name)) for name in ("one", "two")
    )
    assert one == two
    assert (one["read"], one["kept"], one["rejected"]) == (3, 2, 1)


def test_a_later_build_ends_the_processes_of_an_earlier_one(corpus, hostile_reader):
    """The last task of a build that is given up comes back when the others' are closed already."""
    loaded = load_recipe(hostile(corpus, "a", [corpus.sentence(0)]), corpus.out)
    recipe = loaded.recipe.model_dump_json()
    processes = []
    for seconds in (5.0, 6.0):
        with borrowed(SandboxSettings(recipe, 10**9, seconds)) as sandbox:
            list(sandbox.rows(Slice(loaded.files[0], 0, None), "s"))
            processes.append(sandbox._process)
    assert [process.poll() is None for process in processes] == [False, True]
    close_idle()
    assert processes[1].poll() is not None
