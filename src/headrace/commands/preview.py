"""``headrace preview``: show samples of a source."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any
from unicodedata import category

from headrace.commands.options import counted

if TYPE_CHECKING:
    from headrace.shards import Sample, ShardReader

HELP = "print samples of a source, entities in brackets"
EXAMPLE = "headrace preview data/en/train -n 3"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("url", metavar="URL", help="folder of a source")
    parser.add_argument(
        "-n", type=int, default=5, metavar="N", help="number of samples (default: 5)"
    )
    parser.add_argument("--key", metavar="KEY", help="show only the sample with this key")


def run(arguments: argparse.Namespace) -> int:
    """Print the samples, and then counts of languages and tags over them."""
    from headrace.errors import ConfigError, Problem
    from headrace.shards import ShardReader

    if arguments.n < 1:
        raise ConfigError(Problem("out of range", "-n", str(arguments.n), "Give 1 or more"))
    with ShardReader(arguments.url) as reader:
        if arguments.key is not None:
            samples: Iterator[Sample] = iter([_find(reader, arguments.key)])
        else:
            samples = islice(reader, min(arguments.n, len(reader)))
        languages: Counter[str] = Counter()
        tags: Counter[str] = Counter()
        for sample in samples:
            metadata = sample.metadata if "json" in sample.fields else {}
            print("\n".join(_harmless(line) for line in _shown(sample, metadata)))
            languages[str(metadata.get("language", "unknown"))] += 1
            tags.update(tag for tag in metadata.get("tags", []) if tag != "O")
        shards = counted(len(reader.manifest.shards), "shard")
        print(f"{counted(len(reader), 'sample')} in {shards}")
    print(f"languages shown: {_counts(languages)}")
    if tags:
        print(f"tags shown: {_counts(tags)}")
    return 0


def _find(reader: ShardReader, key: str) -> Sample:
    from headrace.errors import Problem, ShardError

    for number in range(len(reader.manifest.shards)):
        shard = reader.shard(number)
        if key in shard.keys:
            return shard[shard.keys.index(key)]
    raise ShardError(
        Problem("no sample with this key", reader.url, key, "List keys with: headrace preview URL")
    )


def _shown(sample: Sample, metadata: dict[str, Any]) -> list[str]:
    details = " ".join(
        f"{name}={value}"
        for name, value in metadata.items()
        if name not in ("id", "tokens", "tags") and isinstance(value, (str, int, float))
    )
    lines = [f"{sample.key}  {details}".rstrip()]
    if "tokens" in metadata and "tags" in metadata:
        lines.append(f"  {bracketed(metadata['tokens'], metadata['tags'])}")
    elif "txt" in sample.fields:
        lines += [f"  {line}" for line in sample.text.splitlines()]
    others = [name for name in sample.fields if name not in ("txt", "json")]
    lines += [f"  {name}: {len(sample.fields[name]):,} bytes" for name in others]
    return [*lines, ""]


def _harmless(line: str) -> str:
    """The line without control characters: text of others must not steer the terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if category(c) == "Cc" else c for c in line)


def bracketed(tokens: list[str], tags: list[str]) -> str:
    """The sentence with each entity as ``[its words TYPE]``; IOB2 tags."""
    parts: list[str] = []
    entity: list[str] = []
    for token, tag, following in zip(tokens, tags, [*tags[1:], "O"], strict=True):
        if tag == "O":
            parts.append(token)
            continue
        entity.append(token)
        if following != f"I-{tag[2:]}":
            parts.append(f"[{' '.join(entity)} {tag[2:]}]")
            entity = []
    return " ".join(parts)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "none"
