"""``README.md``: a dataset card of the Hugging Face hub, and ``data_statement.md`` beside it."""

from __future__ import annotations

import json
from typing import Any

from headrace.corpus.card.blocks import block
from headrace.corpus.card.description import Contact, Description, words
from headrace.corpus.card.facts import Facts
from headrace.corpus.card.licences import hub_licence, identifiers

MARK = "<!-- Written by: headrace card. Change card.yaml and write it again. -->"
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")


def size_category(documents: int) -> str:
    """The hub's name for a number of rows: ``1K<n<10K``."""
    if documents < 1000:
        return f"n<{_SIZES[0]}"
    power = len(str(documents)) - 4
    return f"{_SIZES[power]}<n<{_SIZES[power + 1]}" if power + 1 < len(_SIZES) else "n>1T"


def metadata(facts: Facts, description: Description) -> dict[str, Any]:
    """The YAML block at the top of the card, as the hub and the package datasets read it."""
    licences = [description.licence] if description.licence else facts.licences
    found: dict[str, Any] = {
        "pretty_name": description.title or facts.name,
        "language": facts.languages,
        "license": list(dict.fromkeys(map(hub_licence, identifiers(licences)))),
        "multilinguality": ["multilingual" if len(facts.languages) > 1 else "monolingual"],
        "size_categories": [size_category(facts.summary["totals"]["documents"])],
        "source_datasets": ["original"],
        "task_categories": ["text-generation", "fill-mask"],
        "tags": ["webdataset", *description.keywords],
        "configs": [
            _config("all", [f"{folder}/*.tar" for folder in facts.folders.values()], default=True),
            *(_config(name, [f"{folder}/*.tar"]) for name, folder in facts.folders.items()),
        ],
    }
    if any("-" in tag for tag in facts.varieties):
        found["language_bcp47"] = facts.varieties
    return found


def _config(name: str, paths: list[str], *, default: bool = False) -> dict[str, Any]:
    config: dict[str, Any] = {"config_name": name}
    if default:
        config["default"] = True
    return {**config, "data_files": [{"split": "train", "path": paths}]}


def front_matter(found: dict[str, Any]) -> str:
    """The metadata as YAML; every text is quoted, so that ``no`` stays a language."""
    lines = ["---"]
    for name, value in found.items():
        if isinstance(value, list):
            lines.append(f"{name}:")
            lines += [f"- {_yaml(item)}" for item in value]
        else:
            lines.append(f"{name}: {_yaml(value)}")
    return "\n".join([*lines, "---", ""])


def _yaml(value: Any) -> str:
    """JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def render_readme(facts: Facts, description: Description) -> str:
    """The card as text."""

    def say(name: str) -> str:
        return words(description, name)

    def counted_part(name: str) -> str:
        return block(facts, name)

    title = description.title or facts.name
    parts = [
        front_matter(metadata(facts, description)),
        MARK,
        f"# {_line(title)}",
        _summary(facts, description),
        counted_part("sizes"),
        "## Warnings",
        counted_part("warnings"),
        "## Languages",
        counted_part("languages"),
        "By variety, with script and region as far as they are known:",
        counted_part("varieties"),
        "A share is one of characters; `und` is a language that could not be told, others are the "
        "languages of which nothing was kept.",
        "## Why and how it was made",
        "### Motivation",
        say("motivation"),
        "### Curation",
        say("curation"),
        "### Sources and who answers for them",
        counted_part("governance"),
        counted_part("sources"),
        "### Regions",
        counted_part("regions"),
        "### Licences",
        "Each document keeps its own licence: column `licence` of `index.parquet`, with the "
        "evidence for it in `licence_evidence`.",
        counted_part("licences"),
        "### What rules left out",
        "Each of these documents has a row in `filtered.parquet`, without its text.",
        counted_part("rules"),
        "### Duplicates",
        counted_part("duplicates"),
        "## Private information",
        *_replaced(facts),
        say("privacy"),
        counted_part("private information"),
        "## Structure",
        _structure(facts),
        "## Uses",
        say("uses"),
        "### Out of scope",
        say("out_of_scope"),
        "## Limits and risks",
        "### Limits",
        say("limits"),
        "### Biases",
        say("biases"),
        "### Social impact",
        say("social_impact"),
        "## Maintenance",
        say("maintenance"),
        "### Contacts",
        contacts(description.contacts, description),
        "### Removed documents",
        counted_part("takedowns"),
        "## Citation",
        f"```bibtex\n{description.citation.strip()}\n```"
        if description.citation
        else say("citation"),
        "More about the languages and those who wrote them: `data_statement.md`. The same for "
        "machines: `croissant.json`.",
    ]
    return "\n\n".join(parts) + "\n"


def _structure(facts: Facts) -> str:
    kept = [str(source["id"]) for source in facts.sources if source.get("keep_original")]
    originals = (
        f" `ID.orig` has the bytes that it was read from if its source is {' or '.join(kept)}, and "
        "is empty otherwise: private information has not been taken out of these."
        if kept
        else ""
    )
    return (
        "Each language is a folder of WebDataset shards: plain tars in which a document is "
        f"`ID.txt` (UTF-8, NFC) and `ID.json` (what is known about it).{originals} `index.parquet` "
        f"has a row a document; its column `variety` has the tag with region and script.\n\n{_READ}"
    )


_MODES = {
    "mask": "replaced by the name of its type",
    "hash": "replaced by a keyed hash, the same for the same value",
    "pseudonym": "replaced by made-up values of its kind, the same for the same value",
    "drop": "a reason to leave the document out",
}


def _replaced(facts: Facts) -> list[str]:
    """What the recipe does with private information; nothing if that is not known."""
    if "privacy" not in facts.recipe:
        return []
    privacy = facts.recipe["privacy"]
    if privacy is None:
        return ["Private information was not looked for: the texts have what they had."]
    others = [f"{name} was {_MODES[mode]}" for name, mode in sorted(privacy["modes"].items())]
    names = "Names of people were looked for" if privacy["names"] else "Names of people stayed"
    text = "; ".join([f"What was found was {_MODES[privacy['mode']]}", *others])
    return [f"{text}. {names}; the types are those of the table."]


_READ = """\
```python
from datasets import load_dataset

texts = load_dataset("PATH", "all", split="train", streaming=True)
```"""


def _summary(facts: Facts, description: Description) -> str:
    if not description.summary and facts.description:
        return facts.description.strip()
    return words(description, "summary")


def contacts(people: tuple[Contact, ...], description: Description) -> str:
    """A list of people, or what is missing."""
    if not people:
        return words(description, "contacts")
    lines = []
    for one in people:
        reach = ", ".join(part for part in (one.email, one.url) if part)
        role = f" ({one.role})" if one.role else ""
        lines.append(f"- {one.name}{role}{': ' + reach if reach else ''}")
    return "\n".join(lines)


def _line(text: str) -> str:
    return " ".join(text.split())


def render_statement(facts: Facts, description: Description) -> str:
    """A data statement after Bender and Friedman (TACL 2018)."""

    def say(name: str) -> str:
        return words(description, name)

    parts = [
        MARK,
        f"# Data statement: {_line(description.title or facts.name)}",
        _summary(facts, description),
        "## A. Curation rationale",
        say("curation"),
        block(facts, "rules"),
        "## B. Language varieties",
        block(facts, "languages"),
        block(facts, "varieties"),
        "Tags are BCP 47; und is a language that could not be told, others are the languages of "
        "which nothing was kept.",
        "## C. Speakers",
        say("speakers"),
        "## D. Annotators",
        say("annotators"),
        "## E. Speech situation",
        say("situation"),
        "## F. Text characteristics",
        say("text_characteristics"),
        "## G. Recording quality",
        "Written text, or text that was extracted from documents; documents in quarantine could "
        "not be read.",
        block(facts, "sizes"),
        "## H. Other: limits and biases",
        say("limits"),
        say("biases"),
        "## I. Provenance",
        block(facts, "governance"),
    ]
    return "\n\n".join(parts) + "\n"
