"""``headrace index``: indexes and a manifest for tars that something else wrote."""

from __future__ import annotations

import argparse

from headrace.commands.options import counted

HELP = "index existing WebDataset tars and write their manifest"
EXAMPLE = "headrace index s3://bucket/tars --language en"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("url", metavar="URL", help="folder that holds *.tar files")
    parser.add_argument("--language", metavar="TAG", help="BCP-47 tag, written into a new manifest")
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="trust the tars: make every index and the manifest anew",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that scan side by side (default: the cores, fewer for little data)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Index the folder and print a line for each shard."""
    from headrace.corpus.language import language_problems
    from headrace.errors import ShardError
    from headrace.shards.adopt import index_source
    from headrace.shards.parallel import check_workers

    check_workers(arguments.workers)
    if arguments.language is not None:
        problems = language_problems(arguments.language, "--language")
        if problems:
            raise ShardError(problems)
    metadata = {"language": arguments.language} if arguments.language else {}
    manifest = index_source(
        arguments.url, rebuild=arguments.rebuild, metadata=metadata, workers=arguments.workers
    )
    for shard in manifest.shards:
        print(
            f"{shard.name}  {counted(shard.samples, 'sample')}  {shard.bytes:,} bytes  {shard.hash}"
        )
    shards, samples = counted(len(manifest.shards), "shard"), counted(manifest.samples, "sample")
    print(f"{shards}, {samples}: {manifest.fingerprint}")
    return 0
