"""``headrace augment``: a source with copies of some of its samples."""

from __future__ import annotations

import argparse

from headrace.commands.options import add_samples_per_shard, counted, named_as_options
from headrace.errors import EXIT_DONE

HELP = "write a source with copies, or near-copies, of some of its samples added"
EXAMPLE = "headrace augment data/en/train --output data/en/redundant --share 0.01 --copies 100"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("source", metavar="SOURCE", help="folder of the source: a path or a URL")
    parser.add_argument("--output", required=True, metavar="URL", help="folder of the new source")
    parser.add_argument(
        "--share",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="share of the samples that is copied (default: 0.01)",
    )
    parser.add_argument(
        "--copies", type=int, default=100, metavar="N", help="copies of each (default: 100)"
    )
    parser.add_argument(
        "--noise",
        default="0",
        metavar="SHARE_OR_KINDS",
        help="near-copies: probability of a typing error at each letter, or KIND:RATE,KIND:RATE of "
        "typing, ocr, casing, text_casing, as in typing:0.03,ocr:0.01 (default: 0)",
    )
    parser.add_argument(
        "--only-copies", action="store_true", help="leave the originals out of the new source"
    )
    parser.add_argument(
        "--subsets",
        action="store_true",
        help="originals get the subset clean, copies noisy: evaluation gives scores for both",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="another seed, other samples and errors (default: 1)",
    )
    add_samples_per_shard(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the folder")


def run(arguments: argparse.Namespace) -> int:
    """Write the source and say how many copies of how many samples it has."""
    from headrace.corpus.augment import augment_source

    with named_as_options(("output", "share", "copies", "noise", "samples_per_shard")):
        manifest = augment_source(
            arguments.source,
            arguments.output,
            share=arguments.share,
            copies=arguments.copies,
            noise=arguments.noise,
            only_copies=arguments.only_copies,
            subsets=arguments.subsets,
            seed=arguments.seed,
            samples_per_shard=arguments.samples_per_shard,
            overwrite=arguments.overwrite,
        )
    facts = manifest.metadata["augmentation"]
    print(
        f"{arguments.output}: {counted(manifest.samples, 'sample')}, of which "
        f"{facts['added']:,} are copies of {facts['drawn']:,}"
    )
    return EXIT_DONE
