"""``headrace index``: indexes and a manifest for tars that something else wrote."""

from __future__ import annotations

import argparse

HELP = "index existing WebDataset tars and write their manifest"
EXAMPLE = "headrace index s3://bucket/tars --language en"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("url", metavar="URL", help="folder that holds *.tar files")
    parser.add_argument("--language", help="BCP-47 tag, written into a new manifest")
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="trust the tars: make every index and the manifest anew",
    )


def run(arguments: argparse.Namespace) -> int:
    """Index the folder and print a line for each shard."""
    from headrace.shards.adopt import index_source

    metadata = {"language": arguments.language} if arguments.language else {}
    manifest = index_source(arguments.url, rebuild=arguments.rebuild, metadata=metadata)
    for shard in manifest.shards:
        print(f"{shard.name}  {shard.samples:,} samples  {shard.bytes:,} bytes  {shard.hash}")
    print(f"{len(manifest.shards)} shards, {manifest.samples:,} samples: {manifest.fingerprint}")
    return 0
