"""The documentation against the code: commands, targets, links, config keys and code blocks."""

import argparse
import importlib
import json
import re
import shlex
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Any, get_args, get_origin

import hjson
import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from headrace.cli import COMMANDS
from headrace.config import HeadraceConfig, load_run_config
from headrace.corpus.recipe.settings import Recipe

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
COMPLETE = "<!-- complete run config -->"
"""Stands on the line before a block that holds a whole run config."""
PROGRAMS = {"headrace", "python", "deepspeed", "torchrun", "make"}


class DocumentationError(Exception):
    """What a page says is not so."""


# Markdown


@dataclass(frozen=True)
class Block:
    """A fenced or indented block of a page."""

    page: Path
    line: int
    language: str
    text: str
    complete: bool = False

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path, text: str) -> tuple[list[Block], str]:
    """All blocks of a page, and the page without them (as many lines as before)."""
    blocks, prose, inside = [], [], None
    before = ""
    for number, line in enumerate(text.splitlines(), start=1):
        fence = re.match(r"(\s*)(```+)\s*(\w*)", line)
        if inside is None and fence:
            inside = (number, len(fence[1]), fence[3], before.strip() == COMPLETE, [])
        elif inside is not None and line.strip() == "```":
            start, _, language, complete, lines = inside
            blocks.append(Block(page, start, language, "\n".join(lines), complete))
            inside = None
        elif inside is not None:
            inside[4].append(line[inside[1] :])
            prose.append("")
            continue
        else:
            if re.match(r" {4}(headrace|make|deepspeed|python) ", line) and not before.strip():
                blocks.append(Block(page, number, "", line.strip()))
                line = ""
            prose.append(line)
            before = line
            continue
        prose.append("")
        before = ""
    assert inside is None, f"{page}: a fence is not closed"
    return blocks, "\n".join(prose)


@cache
def parsed(page: Path) -> tuple[list[Block], str]:
    return blocks_of(page, page.read_text(encoding="utf-8"))


BLOCKS = [block for page in PAGES for block in parsed(page)[0]]


def spans(page: Path) -> list[str]:
    """The text of every inline code span."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", parsed(page)[1])


# Commands


def commands_of(block: Block) -> list[list[str]]:
    """The words of each command of this project in a block of shell lines."""
    if block.language not in ("", "bash", "sh"):
        return []
    found = []
    for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
        line = re.sub(r"^\$ ", "", line.strip())
        if block.language == "" and line.partition(" ")[0] not in PROGRAMS:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError as error:
            raise DocumentationError(f"not a shell line: {line} ({error})") from None
        for part in _split_at_operators(words):
            while part and (part[0] in ("do", "then", "else", "srun") or "=" in part[0]):
                part = part[1:]
            if part and Path(part[0]).name in PROGRAMS:
                found.append([Path(part[0]).name, *part[1:]])
    return found


def _split_at_operators(words: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    skip = False
    for word in words:
        if skip:  # the file of a redirection
            skip = False
        elif word and set(word) <= set("<>&|") and set(word) & set("<>"):
            skip = True
        elif word and set(word) <= set("();|&"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


class StrictParser(argparse.ArgumentParser):
    """Raises instead of leaving the process, and wants options written out."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> None:
        raise DocumentationError(message)


@cache
def parser_of(command: str) -> StrictParser:
    if command not in COMMANDS:
        raise DocumentationError(f"there is no command {command}")
    module = importlib.import_module(f"headrace.commands.{command.replace('-', '_')}")
    parser = StrictParser(prog=f"headrace {command}")
    module.configure(parser)
    for action in parser._actions:
        if action.type is not None:
            action.type = _or_placeholder(action.type)
    return parser


def _or_placeholder(kind: Any) -> Any:
    """The type of an argument that may also be a shell variable."""

    def read(text: str) -> Any:
        return text if text.startswith("$") else kind(text)

    read.__name__ = getattr(kind, "__name__", "value")
    return read


def check_options(command: str, words: list[str]) -> None:
    """Parse the words as the command would; with an ellipsis check only that the options exist."""
    parser = parser_of(command)
    if {"--help", "-h"} & set(words):
        return
    if any(word.strip("[]") in ("…", "...") for word in words):
        known = parser._option_string_actions
        unknown = [word for word in words if re.match(r"--?[a-z]", word) and word not in known]
        if unknown:
            raise DocumentationError(f"headrace {command} has no option {', '.join(unknown)}")
        return
    parser.parse_args(words)


@cache
def script_command(script: str) -> str:
    """The command that a thin script runs."""
    path = ROOT / script
    if not path.is_file():
        raise DocumentationError(f"there is no script {script}")
    match = re.search(r'main\(\["([a-z-]+)"', path.read_text(encoding="utf-8"))
    if match is None:
        raise DocumentationError(f"{script} runs no command of headrace")
    return match[1]


def check_block(block: Block) -> None:
    """Check every command of a block."""
    for words in commands_of(block):
        check_command(words)


def check_command(words: list[str]) -> None:
    """Raise ``DocumentationError`` if a command line would be refused."""
    program, *rest = words
    if program == "make":
        for target in (word for word in rest if not word.startswith("-") and "=" not in word):
            check_target(target)
    elif program == "headrace":
        if rest and rest[0] not in ("--help", "--version"):
            check_options(rest[0], rest[1:])
    elif program == "python":
        if rest and rest[0].endswith(".py"):
            check_options(script_command(rest[0]), rest[1:])
    else:
        script, arguments = _behind_launcher(program, rest)
        check_options(script_command(script), arguments)


def _behind_launcher(program: str, words: list[str]) -> tuple[str, list[str]]:
    """The script and its arguments, as the launcher itself reads them."""
    try:
        if program == "deepspeed":
            from deepspeed.launcher.runner import parse_args

            launched = parse_args(words)
            return launched.user_script, launched.user_args
        from torch.distributed.run import get_args_parser

        launched = get_args_parser().parse_args(words)
        return launched.training_script, launched.training_script_args
    except SystemExit:
        raise DocumentationError(f"{program} refuses: {shlex.join(words)}") from None


@cache
def makefile_targets() -> dict[str, str]:
    """Target -> its recipe."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = re.findall(r"^([a-z][a-z-]*):[^\n=]*\n((?:\t[^\n]*\n?)*)", text, re.MULTILINE)
    return dict(rules)


def check_target(target: str) -> None:
    if target not in makefile_targets():
        raise DocumentationError(f"the Makefile has no target {target}")
    for file in re.findall(r"\b(?:scripts|launch|shards)/\w+\.\w+", makefile_targets()[target]):
        if not (ROOT / file).is_file():
            raise DocumentationError(f"make {target} needs {file}, which does not exist")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_would_be_accepted(page):
    wrong = []
    for block in parsed(page)[0]:
        for words in commands_of(block):
            try:
                check_command(words)
            except DocumentationError as error:
                wrong.append(f"{block}: {shlex.join(words)}: {error}")
    for span in spans(page):
        program, _, rest = span.partition(" ")
        if program not in PROGRAMS - {"python"} or not re.match(r"[a-z]", rest):
            continue
        try:
            if program == "headrace":
                command, *words = rest.split()
                check_options(command, [*words, "…"])
            elif program == "make":
                check_target(rest)
        except DocumentationError as error:
            wrong.append(f"{page.name}: `{span}`: {error}")
    assert not wrong, "\n".join(wrong)


def test_the_commands_of_the_readme_are_found():
    found = [words for block in parsed(ROOT / "README.md")[0] for words in commands_of(block)]
    commands = {words[1] for words in found if words[0] == "headrace"}
    assert {"build", "tokenizer", "train", "evaluate", "predict", "report"} <= commands
    assert {words[1] for words in found if words[0] == "make"} >= {"demo", "test"}
    assert any(words[0] == "deepspeed" for words in found)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("headrace build a.conll --output x --lang en", "--language"),
        ("headrace build a.conll --output x --language en --colour red", "--colour red"),
        ("headrace tokenizer --output x", "SOURCE"),
        ("headrace bild a.conll", "no command bild"),
        ("headrace preview x -n five", "invalid"),
        ("python shards/bild.py a", "no script shards/bild.py"),
        ("deepspeed --num_gpus 2 launch/train.py --ds_conf x.json", "--ds_conf"),
        ("deepspeed --number_of_gpus 2 launch/train.py --ds_config x.json", "deepspeed refuses"),
        ("torchrun --nproc-per-node 2 launch/train.py --config x --dry", "--dry"),
        ("make demo tests", "no target tests"),
        ("for l in en; do headrace encode $l --lables x; done", "--tokenizer"),
        ("headrace encode a \\\n    --tokenizer t \\\n    --max_length 9", "--max_length"),
        ("headrace train --ds_config … --dry-runs …", "--dry-runs"),
    ],
)
def test_a_wrong_command_is_noticed(line, says):
    block = Block(ROOT / "README.md", 1, "bash", line)
    with pytest.raises(DocumentationError, match=re.escape(says)):
        check_block(block)


def test_shell_around_a_command_is_understood():
    text = (
        "# a comment with headrace nonsense\n"
        "cd somewhere && OMP_NUM_THREADS=1 headrace verify a b > log 2>&1 | tail -1\n"
        "for l in en hi; do headrace preview data/$l -n $count; done\n"
        "python shards/build.py a.gz \\\n  --output x --language en  # why\n"
    )
    found = commands_of(Block(ROOT / "README.md", 1, "bash", text))
    assert [words[:2] for words in found] == [
        ["headrace", "verify"], ["headrace", "preview"], ["python", "shards/build.py"],
    ]  # fmt: skip
    check_block(Block(ROOT / "README.md", 1, "bash", text))


# Links, images and tests that are named


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+\s+(.*)$", parsed(page)[1], re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", parsed(page)[1]):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            wrong.append(target)
        elif anchor and anchor not in anchors(file):
            wrong.append(f"{target}: no such heading")
    assert not wrong, wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_is_named_exists(page):
    for span in spans(page):
        match = re.fullmatch(r"(tests/[\w/]+\.py)(?:::(\w+))?", span)
        if match is None:
            continue
        assert (ROOT / match[1]).is_file(), span
        if match[2]:
            text = (ROOT / match[1]).read_text(encoding="utf-8")
            assert f"def {match[2]}(" in text, span


# Config


def in_schema(path: str) -> bool:
    """Whether a dotted path leads to a key of the section ``headrace``."""
    model: Any = HeadraceConfig
    for part in re.sub(r"\[\]", ".0", path).split(".")[1:]:
        found = [
            field.annotation
            for section in _sections(model)
            for name, field in section.model_fields.items()
            if part == (field.alias or name)
        ]
        if found:
            model = reduce(or_, found)
        elif _holds(model, list) and part.isdigit():
            model = next(get_args(kind)[0] for kind in _members(model) if get_origin(kind) is list)
        elif _holds(model, dict):
            model = next(get_args(kind)[1] for kind in _members(model) if get_origin(kind) is dict)
        else:
            return False
    return True


def _members(annotation: Any) -> list[Any]:
    """The members of a union, or the annotation itself."""
    if get_origin(annotation) in (list, dict) or isinstance(annotation, type):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _members(part)] or [annotation]


def _holds(annotation: Any, kind: type) -> bool:
    return any(get_origin(member) is kind for member in _members(annotation))


def _sections(annotation: Any) -> list[type[BaseModel]]:
    kinds = [kind for kind in _members(annotation) if isinstance(kind, type)]
    return [kind for kind in kinds if get_origin(kind) is None and issubclass(kind, BaseModel)]


def in_package(path: str) -> bool:
    """Whether a dotted path is a module of the package, or a name in one."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_config_key_exists(page):
    named = set()
    shell = [block.text for block in parsed(page)[0] if block.language in ("", "bash")]
    for text in (*spans(page), *shell):
        found = re.findall(r"(?<![\w/.-])headrace\.[A-Za-z0-9_]+(?:\[\]|\.[A-Za-z0-9_]+)*", text)
        named |= {path for path in found if not path.endswith((".json", ".md"))}
    wrong = [path for path in sorted(named) if not (in_schema(path) or in_package(path))]
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("path", "exists"),
    [
        ("headrace.stages.0.epochs", True),
        ("headrace.stages[].mixture.weights.hi", True),
        ("headrace.data.train.en", True),
        ("headrace.stages.0.epoch", False),
        ("headrace.stages.epochs", False),
        ("headrace.seed.more", False),
    ],
)
def test_paths_are_looked_up_in_the_schema(path, exists):
    assert in_schema(path) is exists


# Blocks of data and code


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_what_it_says(block, tmp_path):
    if block.complete:
        path = tmp_path / "run.json"
        path.write_text(block.text, encoding="utf-8")
        load_run_config(path)
    elif block.language == "hjson":
        assert isinstance(hjson.loads(block.text), dict)
    elif block.language in ("json", "jsonl"):
        documents = block.text.splitlines() if block.language == "jsonl" else [block.text]
        for document in documents:
            json.loads(document)
    elif block.language == "yaml":
        for key, value in yaml.safe_load(block.text).items():  # a recipe, or sections of one
            field = TypeAdapter(Recipe.model_fields[key].annotation)
            field.validate_json(json.dumps(value, default=str))
    elif block.language == "python":
        compile(block.text, str(block), "exec")
    else:
        assert block.language in ("", "bash", "sh", "text", "console"), "unknown language"


def test_the_readme_has_a_complete_run_config():
    assert any(block.complete for block in parsed(ROOT / "README.md")[0])
